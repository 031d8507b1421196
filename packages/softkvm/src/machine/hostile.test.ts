/**
 * Guests that do their worst cost time, not memory: what is kept of their code stays within its limits, nothing is thrown,
 * and a kick gets the vCPU back. `LODGE_LONG=1` runs all for longer.
 */

import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { ExitReason } from "@lodge/kvm";
import { CODE_LIMITS } from "../interpreter/limits.ts";
import type { SoftKickHandle } from "./notifier.ts";
import { openSoft } from "./open.ts";
import { COUNTING_GUEST, HOSTILE_GUESTS, type HostileGuest, hostileMachine, PIECES } from "./testing/hostile-guests.ts";
import type { SoftVcpu } from "./vcpu.ts";

const LOOKS = process.env.LODGE_LONG ? 20_000 : 100;

const STANDARD = { ...CODE_LIMITS };
/** So little that everything is forgotten again and again. */
const TINY = { blocks: 100, microcode: 30, shapes: 10, jumpPages: 100, handlerBytes: 10_000, regionBytes: 60_000 };
/** What one block may add: budgets are looked at before it is decoded. */
const BLOCK = { blocks: 1, microcode: 64, shapes: 0, jumpPages: 0, handlerBytes: 100_000, regionBytes: 0 };

/** Lets the vCPU return to the monitor after it has looked around so many times, as if it were kicked then. */
function limitLooks(vcpu: SoftVcpu, looks: number): void {
  let left = looks;
  const attend = vcpu.attend.bind(vcpu);
  vcpu.attend = () => {
    left -= 1;
    return left < 0 ? ExitReason.INTR : attend();
  };
}

/** Runs a guest that may also leave for other reasons: then it begins again. */
function runFor(guest: HostileGuest, looks: number, check: (vcpu: SoftVcpu) => void): void {
  const { vm, vcpu, restart } = hostileMachine(guest);
  using _vm = vm;
  using _vcpu = vcpu;
  limitLooks(vcpu, looks);
  while (vcpu.run() !== ExitReason.INTR) {
    check(vcpu);
    restart();
  }
  check(vcpu);
}

function assertBounded({ core }: SoftVcpu): void {
  for (const [name, count] of Object.entries(core.kept)) {
    const limit = CODE_LIMITS[name as keyof typeof CODE_LIMITS] + BLOCK[name as keyof typeof BLOCK];
    assert.ok(count <= limit, `${name}: ${count} are kept, more than ${limit}`);
  }
}

for (const [size, limits] of Object.entries({ standard: STANDARD, tiny: TINY })) {
  for (const guest of HOSTILE_GUESTS) {
    test(`what is kept stays within ${size} limits: ${guest.name}`, (t) => {
      Object.assign(CODE_LIMITS, limits);
      t.after(() => Object.assign(CODE_LIMITS, STANDARD));
      runFor(guest, LOOKS, assertBounded);
    });
  }

  test(`a guest whose code is forgotten again and again computes what it should: ${size} limits`, (t) => {
    Object.assign(CODE_LIMITS, limits);
    t.after(() => Object.assign(CODE_LIMITS, STANDARD));
    const { vm, vcpu } = hostileMachine(COUNTING_GUEST);
    using _vm = vm;
    using _vcpu = vcpu;
    assert.equal(vcpu.run(), ExitReason.HLT);
    assert.equal(vcpu.getRegs().rax, BigInt(PIECES) * 1000n);
    assertBounded(vcpu);
  });
}

test("code and data may lie anywhere in what 32 bits reach", () => {
  for (const offset of [2 ** 31 - 2 ** 20, 3.45 * 2 ** 30 - ((3.45 * 2 ** 30) % 65536)]) {
    const { vm, vcpu } = hostileMachine(COUNTING_GUEST, offset);
    using _vm = vm;
    using _vcpu = vcpu;
    assert.equal(vcpu.run(), ExitReason.HLT);
    assert.equal(vcpu.getRegs().rax, BigInt(PIECES) * 1000n);
  }
});

test("a kick stops each of them", async () => {
  using soft = openSoft();
  for (const [index, { name }] of HOSTILE_GUESTS.entries()) {
    const worker = new Worker(new URL("./testing/hostile-worker.ts", import.meta.url), { workerData: index });
    const ended = once(worker, "exit");
    const [handle] = (await once(worker, "message")) as [SoftKickHandle];
    soft.attachKicker(handle).kick();
    const [exits] = await once(worker, "message");
    assert.ok(exits >= 0, name);
    await ended;
  }
});
