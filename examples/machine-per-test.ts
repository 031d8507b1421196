/** Every test in a machine of its own: what one breaks, the others never see. `node --test examples/machine-per-test.ts` */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Machine } from "@lodge/vmm";

const start = (signal: AbortSignal) => Machine.start({ image: "tiny", memory: "128M", networks: [], signal });

test("a program that fills the file system", async ({ signal }) => {
  await using vm = await start(signal);
  const { status } = await vm.exec(["dd", "if=/dev/zero", "of=/tmp/full", "bs=1M"], { signal });
  assert.notEqual(status, 0);
});

test("finds a clean one here", async ({ signal }) => {
  await using vm = await start(signal);
  const { stdout } = await vm.exec(["ls", "/tmp"], { signal });
  assert.equal(stdout, "");
});
