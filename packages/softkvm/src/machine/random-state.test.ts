/**
 * Random bytes executed in every mode from random states, on page tables, descriptor tables and data that are random, too,
 * or such that code gets further: whatever they do, run() returns, and says why. `LODGE_SEED` repeats a run,
 * `LODGE_LONG=1` makes it longer.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { ExitReason, exitReasonName } from "@lodge/kvm";
import { Random } from "../../testing/random.ts";
import { openSoft } from "./open.ts";
import { fillMemory, MEMORY_BYTES, MODES, setRandomState, writeTables } from "./testing/random-states.ts";
import type { SoftVcpu } from "./vcpu.ts";
import type { SoftVm } from "./vm.ts";

const SEED = Number(process.env.LODGE_SEED ?? Date.now() % 2 ** 31);
const MACHINES = process.env.LODGE_LONG ? 4000 : 64;
/** Of each machine; times that the vCPU looks around in each, and exits that are answered. */
const STATES = 10;
const LOOKS = 5;
const EXITS = 50;

/** What a guest's exits can be; nothing else has a place here. */
const EXPECTED: ReadonlySet<number> = new Set([
  ...[ExitReason.IO, ExitReason.MMIO, ExitReason.HLT, ExitReason.SHUTDOWN, ExitReason.INTERNAL_ERROR, ExitReason.INTR],
]);
const LAST: ReadonlySet<number> = new Set([ExitReason.SHUTDOWN, ExitReason.INTERNAL_ERROR, ExitReason.INTR]);

/** Where the run page has the data of a read from a port; that of MMIO is in the exit's record. */
const PORT_DATA = 0x1000;

test("random bytes in random states end in exits that there are", (t) => {
  t.diagnostic(`LODGE_SEED=${SEED}`);
  const random = new Random(SEED);
  const soft = openSoft();
  const counts = new Map<string, number>();
  for (let machine = 0; machine < MACHINES; machine++) {
    const mode = MODES[machine % MODES.length]!;
    const memory = soft.createMemory(MEMORY_BYTES);
    using vm = soft.createVm(memory) as SoftVm;
    if (random.chance(0.3)) vm.createIrqchip();
    vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: MEMORY_BYTES, memoryOffset: 0 });
    using vcpu = vm.createVcpu(0) as SoftVcpu;
    vcpu.setCpuid(soft.supportedCpuid());
    let looks = 0;
    const attend = vcpu.attend.bind(vcpu);
    vcpu.attend = () => (++looks > LOOKS ? ExitReason.INTR : attend());
    // A halted processor would sleep until somebody wakes it, and here is nobody.
    vm.board.sleep = () => {
      looks = LOOKS;
    };
    const bytes = new Uint8Array(memory.buffer, 0, MEMORY_BYTES);
    fillMemory(random, bytes, mode);
    const tables = random.chance(0.7);
    for (let state = 0; state < STATES; state++) {
      if (tables) writeTables(random, bytes, mode);
      looks = 0;
      setRandomState(random, vcpu, mode, tables);
      for (let exits = 0; exits < EXITS; exits++) {
        const reason = vcpu.run();
        assert.ok(EXPECTED.has(reason), `${mode}: ${exitReasonName(reason)}`);
        const name = `${mode} ${exitReasonName(reason).slice("KVM_EXIT_".length)}`;
        counts.set(name, (counts.get(name) ?? 0) + 1);
        if (LAST.has(reason)) break;
        vcpu.page.view.setUint32(PORT_DATA, random.next(), true);
      }
    }
  }
  t.diagnostic([...counts].map(([name, count]) => `${name} ${count}`).join(", "));
});
