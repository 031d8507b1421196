/** The order in which a monitor sets general registers and segments does not matter. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { flatProtectedMode } from "@lodge/kvm";
import { softProcessor } from "../../testing/soft-processor.ts";
import { getRegs, setRegs } from "./regs.ts";
import { getSregs, setSregs } from "./sregs.ts";

const VM = 0x20000n;

test("flags that end or begin virtual-8086 mode change the privilege level with them, whichever was set first", () => {
  const { cpu } = softProcessor(65536);
  const sregs = flatProtectedMode(getSregs(cpu));
  const regs = { ...getRegs(cpu), rip: 0x1000n };
  setSregs(cpu, sregs);
  assert.equal(cpu.state.cpl, 0);
  setRegs(cpu, { ...regs, rflags: 2n | VM });
  assert.equal(cpu.state.cpl, 3);
  setSregs(cpu, sregs);
  setRegs(cpu, { ...regs, rflags: 2n });
  assert.equal(cpu.state.cpl, 0);
});
