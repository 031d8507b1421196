/** A kick does not wait for the compiler: wherever it comes, what is being compiled is given up, and compiled another time. */

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { ExitReason } from "@lodge/kvm";
import { type FlatGuest, flatGuest } from "../../testing/flat-guest.ts";
import { Attention } from "../machine/board.ts";

const LOOP = 0x1000;
/** Enough budgets for a region to be wished often. */
const TURNS = 1_500_000;

/** xor %eax, %eax; 1: add $3, %eax; test $1, %cl; jz 2f; add $2, %eax; 2: dec %ecx; jnz 1b; hlt: a loop of three blocks. */
const CODE = [0x31, 0xc0, 0x83, 0xc0, 3, 0xf6, 0xc1, 1, 0x74, 3, 0x83, 0xc0, 2, 0x49, 0x75, 0xf2, 0xf4];
const RESULT = BigInt(TURNS * 3 + (TURNS / 2) * 2);

function machine(): FlatGuest {
  const guest = flatGuest();
  guest.write(LOOP, CODE);
  guest.goTo(LOOP, TURNS);
  return guest;
}

/** Calls back each time that the compiler looks for a kick, before it does. */
function onLook({ vcpu }: FlatGuest, context: TestContext, act: () => void): void {
  const { board } = vcpu.vm;
  const isKicked = board.isKicked.bind(board);
  context.mock.method(board, "isKicked", (slot: number) => {
    act();
    return isKicked(slot);
  });
}

/** How often a machine that nobody kicks looks while it compiles its first region. */
function looksOfFirstRegion(context: TestContext): number {
  using guest = machine();
  let looks = 0;
  onLook(guest, context, () => {
    if (guest.regionBytes === 0) looks += 1;
  });
  assert.equal(guest.vcpu.run(), ExitReason.HLT);
  return looks;
}

test("a kick at any step of the compiler stops the vCPU with nothing of the region in use, and it is compiled afterwards", (context) => {
  const looks = looksOfFirstRegion(context);
  assert.ok(looks > 15, `${looks} steps: decoding, form and code of each block and instruction`);
  for (let at = 1; at <= looks; at++) {
    using guest = machine();
    const { vcpu } = guest;
    let look = 0;
    onLook(guest, context, () => {
      look += 1;
      if (look === at) vcpu.vm.board.ask(vcpu.slot, Attention.KICK);
    });
    assert.equal(vcpu.run(), ExitReason.INTR, `kicked at step ${at}`);
    assert.equal(guest.regionBytes, 0, `given up at step ${at}`);
    assert.equal(look, at, "at once");
    assert.equal(vcpu.run(), ExitReason.HLT);
    assert.equal(vcpu.getRegs().rax, RESULT);
    assert.notEqual(guest.regionBytes, 0, `compiled after it was given up at step ${at}`);
  }
});

test("a vCPU that is kicked whenever it compiles compiles nevertheless", (context) => {
  using guest = machine();
  const { vcpu } = guest;
  let looks = 0;
  onLook(guest, context, () => {
    looks += 1;
    vcpu.vm.board.ask(vcpu.slot, Attention.KICK);
  });
  const runToEnd = () => {
    guest.goTo(LOOP, TURNS);
    let reason = vcpu.run();
    for (; reason !== ExitReason.HLT; reason = vcpu.run()) assert.equal(reason, ExitReason.INTR);
    assert.equal(vcpu.getRegs().rax, RESULT);
  };
  runToEnd();
  assert.notEqual(guest.regionBytes, 0);
  // Eight times for each block, and for what the region asks to take in.
  assert.ok(looks >= 8 && looks < 64, `${looks} looks`);
  looks = 0;
  runToEnd();
  assert.equal(looks, 0, "all that the loop consists of is compiled");
});
