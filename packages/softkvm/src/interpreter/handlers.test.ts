import assert from "node:assert/strict";
import { test } from "node:test";
import type { Meaning } from "../semantics/context.ts";
import { c32 } from "../wasm/ops.ts";
import { Handlers, JumpCache } from "./handlers.ts";
import { Record } from "./record.ts";
import type { Shape } from "./shape.ts";

const RECORD = JumpCache.end;

const shape = (key: string): Shape => ({
  ...{ key, mnemonic: key, condition: -1, operands: [], operandSize: 8, addressSize: 8, stackSize: 8, bits: 64 },
  ...{ lock: false, rep: 0 },
  address: { size: 8, hasIndex: false, hasSegment: false, checked: false, stack: false },
});

const returns =
  (value: number): Meaning =>
  ({ code }) =>
    code.return(c32(value));

function make() {
  const pages = Math.ceil((RECORD + Record.size) / 65536);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  const handlers = new Handlers(memory, 0, { load: () => 0, store: () => 0, segmentFault: () => {} });
  const view = new DataView(memory.buffer);
  const run = (slot: number): number => {
    view.setUint32(RECORD + Record.handler, slot, true);
    return handlers.enter(RECORD);
  };
  return { handlers, run };
}

test("handlers come to their own slots when slots in between were taken for compiled code", () => {
  const { handlers, run } = make();
  const one = handlers.slotOf(shape("one"), returns(101));
  handlers.takeSlot();
  const two = handlers.slotOf(shape("two"), returns(102));
  handlers.flush();
  assert.deepEqual([run(one), run(two)], [101, 102]);
});

test("handlers that were not compiled yet when all were forgotten stay forgotten", () => {
  const { handlers, run } = make();
  handlers.slotOf(shape("early"), returns(100));
  handlers.slotOf(shape("one"), returns(101));
  handlers.clear();
  const two = handlers.slotOf(shape("two"), returns(102));
  const one = handlers.slotOf(shape("one"), returns(103));
  handlers.flush();
  assert.deepEqual([run(one), run(two)], [103, 102]);
});
