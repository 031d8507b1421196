/** The room behind a guest's memory. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { MemoryMap } from "../mmu/memory-map.ts";
import { areaBytes, createSoftMemory, growMemory, MOST_VCPUS, WASM_PAGE } from "./memory.ts";

const GIB = 2 ** 30;

for (const sizeBytes of [2 ** 20, GIB, 2 * GIB, 3 * GIB, 3.5 * GIB]) {
  test(`behind ${sizeBytes / 2 ** 20} MiB there is room for all vCPUs and the bits of pages that hold code`, () => {
    const memory = createSoftMemory(sizeBytes);
    growMemory(memory, Math.ceil(MemoryMap.codeBytes(sizeBytes) / WASM_PAGE));
    for (let vcpus = 0; vcpus < MOST_VCPUS; vcpus++) growMemory(memory, areaBytes(memory) / WASM_PAGE);
    assert.throws(() => growMemory(memory, areaBytes(memory) / WASM_PAGE), /at most 3.5 GiB and 16 vCPUs/);
  });
}
