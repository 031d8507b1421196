import assert from "node:assert/strict";
import { test } from "node:test";
import { flatProtectedMode } from "@lodge/kvm";
import { softProcessor } from "../../testing/soft-processor.ts";
import { getRegs, setRegs } from "./regs.ts";
import { getSregs, setSregs } from "./sregs.ts";

test("a halt in protected mode", () => {
  const soft = softProcessor(0x20000);
  setSregs(soft.cpu, flatProtectedMode(getSregs(soft.cpu)));
  soft.bytes.set([0xfa, 0xf4], 0x1000);
  setRegs(soft.cpu, { ...getRegs(soft.cpu), rip: 0x1000n, rflags: 2n });
  assert.equal(soft.run(), "halt");
  assert.equal(soft.cpu.rip, 0x1002n);
});
