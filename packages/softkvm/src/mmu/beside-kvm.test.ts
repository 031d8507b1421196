/**
 * Accesses through random 4-level page tables, by the guest on /dev/kvm and by the walker: fault or none, error code,
 * CR2, accessed and dirty bits are compared. Ring 3 runs on the processor, ring 0 in KVM's own walker.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { ExitReason } from "@lodge/kvm";
import { BesideKvm, noKvm } from "../../testing/beside-kvm.ts";
import { HANDLERS, MEMORY, type Operation, pageTableCase, RANDOM_TABLES, TABLES } from "../../testing/page-tables.ts";
import { Random } from "../../testing/random.ts";
import { NO_FAULT, State, Vector } from "../cpu/layout.ts";
import { Outcome } from "./access.ts";

const { LODGE_SEED, LODGE_CASES, LODGE_LONG } = process.env;
const seed = LODGE_SEED === undefined ? Date.now() % 1_000_000_000 : Number(LODGE_SEED);
const cases = Number(LODGE_CASES ?? (LODGE_LONG ? 50_000 : 2_000));

/** "ok", "hole", "internal" or the fault in words. */
function onKvm(both: BesideKvm): string {
  const { end, regs, sregs } = both.runKvm();
  if (end === `exit ${ExitReason.MMIO}`) return "hole";
  if (end !== "halt") return end;
  const vector = (Number(regs.rip) - 1 - HANDLERS) / 4;
  if (vector !== Vector.PF) return "ok";
  const error = new DataView(both.memory.buffer).getUint32(Number(regs.rsp), true);
  return `page fault, error ${error}, at 0x${sregs.cr2.toString(16)}`;
}

function inSoftware(both: BesideKvm, operation: Operation, address: bigint): string {
  const { cpu } = both.soft;
  const va = Number(BigInt.asIntN(64, address));
  const { memory, state: registers } = cpu;
  // What the guest stores: rax.
  registers.set64(State.transfer, 0n);
  if (operation === "fetch") {
    const at = memory.fetch(va);
    if (at >= 0) return "ok";
    if (at === -2) return "hole";
  } else {
    const outcome = operation === "read" ? memory.load(va, 8, 0) : memory.store(va, 8, 0);
    memory.mmio.clear();
    if (outcome === Outcome.OK) return "ok";
    if (outcome === Outcome.EXIT) return "hole";
  }
  const error = registers.get32(State.faultError);
  const where = registers.get64(State.faultAddress);
  assert.equal(registers.get32(State.faultVector), Vector.PF);
  registers.set32(State.faultVector, NO_FAULT);
  return `page fault, error ${error}, at 0x${where.toString(16)}`;
}

test(`${cases} accesses through random page tables do what they do on KVM (seed ${seed})`, { skip: noKvm }, (t) => {
  using both = new BesideKvm(MEMORY);
  const leaf = both.vcpu.getCpuid().find(({ function: number }) => number === 0x80000008);
  const physicalBits = leaf!.eax & 0xff;
  both.soft.cpu.memory.walker.configure({ physicalBits, gigabytePages: true });
  const endings = new Map<string, number>();
  for (let index = 0; index < cases; index++) {
    const made = pageTableCase(new Random(seed * 1_000_003 + index), physicalBits);
    both.forgetPageTables();
    both.load(made.image, made.state);
    const kvm = onKvm(both);
    // Where the address leads into the tables, the guest ran on in what they look like as code.
    if (made.operation === "fetch" && kvm.startsWith("page") && !kvm.endsWith(` at 0x${made.address.toString(16)}`))
      continue;
    const what = kvm.replace(/ at .*/, "");
    endings.set(what, (endings.get(what) ?? 0) + 1);
    // Fetching from a hole, or running on at random: nothing to compare.
    if (kvm.startsWith("internal") || kvm.startsWith("exit")) continue;
    const soft = inSoftware(both, made.operation, made.address);
    // KVM's emulator has its own ideas of code that is not in memory.
    if (made.operation === "fetch" && soft === "hole") continue;
    const { cr0, cr4, efer, cs } = made.state.sregs;
    const registers = `cr0 ${cr0.toString(16)} cr4 ${cr4.toString(16)} efer ${efer.toString(16)} ring ${cs.dpl}`;
    const message = `${made.operation} of 0x${made.address.toString(16)}, ${registers}, LODGE_SEED=${seed}, case ${index}`;
    assert.equal(soft, kvm, message);
    for (const at of [TABLES, ...RANDOM_TABLES]) {
      const kvmTable = new BigUint64Array(both.memory.buffer, at, 512);
      const softTable = new BigUint64Array(both.soft.bytes.buffer, at, 512);
      for (let slot = 0; slot < 512; slot++) {
        // The guest's own code and stack went through entry 0.
        if (at === TABLES && slot === 0) continue;
        assert.equal(
          softTable[slot]!.toString(16),
          kvmTable[slot]!.toString(16),
          `entry ${slot} at ${at.toString(16)}: ${message}`,
        );
      }
    }
  }
  t.diagnostic(JSON.stringify(Object.fromEntries(endings)));
});
