/**
 * One access through random 4-level page tables, by the guest on /dev/kvm and by the walker: fault or none, error code,
 * CR2, accessed and dirty bits.
 */

import { ExitReason } from "@lodge/kvm";
import { NO_FAULT, State, Vector } from "../src/cpu/layout.ts";
import { Outcome } from "../src/mmu/access.ts";
import { BesideKvm } from "./beside-kvm.ts";
import { oracle } from "./oracles.ts";
import { HANDLERS, MEMORY, type Operation, pageTableCase, RANDOM_TABLES, TABLES } from "./page-tables.ts";
import { Random } from "./random.ts";
import type { Verdict } from "./scenario-beside-kvm.ts";

/** Page faults at one address, whose error codes say the same in other words. */
function isTolerated(kvm: string, soft: string): boolean {
  const [theirs, ours] = [kvm, soft].map((ending) => /^page fault, error (\d+), (.*)$/.exec(ending));
  if (!theirs || !ours || theirs[2] !== ours[2]) return false;
  return oracle.toleratesError(Number(theirs[1]), Number(ours[1]));
}

/** Both with as many bits of physical addresses. */
export class PageTablesBesideKvm implements Disposable {
  readonly #both = new BesideKvm(MEMORY);
  readonly #physicalBits: number;

  constructor() {
    const leaf = this.#both.vcpu.getCpuid().find(({ function: number }) => number === 0x80000008);
    this.#physicalBits = leaf!.eax & 0xff;
    const { walker } = this.#both.soft.cpu.memory;
    walker.configure({ physicalBits: this.#physicalBits, gigabytePages: true });
  }

  compare(seed: number, index: number): Verdict & { readonly ending: string } {
    const both = this.#both;
    const made = pageTableCase(new Random(seed * 1_000_003 + index), this.#physicalBits);
    const { cr0, cr4, efer, cs } = made.state.sregs;
    const registers = `cr0 ${cr0.toString(16)} cr4 ${cr4.toString(16)} efer ${efer.toString(16)} ring ${cs.dpl}`;
    const what = `${made.operation} of 0x${made.address.toString(16)}, ${registers}, LODGE_SEED=${seed}, case ${index}`;
    both.forgetPageTables();
    both.load(made.image, made.state);
    const kvm = this.#onKvm();
    const ending = kvm.replace(/ at .*/, "");
    const skip = (skipped: string) => ({ what, ending, skipped, differences: [] });
    // Where the address leads into the tables, the guest ran on in what they look like as code.
    if (made.operation === "fetch" && kvm.startsWith("page") && !kvm.endsWith(` at 0x${made.address.toString(16)}`))
      return skip("the program went astray");
    // Fetching from a hole, or running on at random: nothing to compare.
    if (kvm.startsWith("internal") || kvm.startsWith("exit")) return skip(`KVM: ${kvm}`);
    const soft = this.#inSoftware(made.operation, made.address);
    // KVM's emulator has its own ideas of code that is not in memory.
    if (made.operation === "fetch" && soft === "hole") return skip("code that is not in memory");
    const found = soft === kvm || isTolerated(kvm, soft) ? [] : [`ends: kvm ${kvm}, soft ${soft}`];
    for (const at of [TABLES, ...RANDOM_TABLES]) {
      const kvmTable = new BigUint64Array(both.memory.buffer, at, 512);
      const softTable = new BigUint64Array(both.soft.bytes.buffer, at, 512);
      // The guest's own code and stack went through entry 0.
      for (let slot = at === TABLES ? 1 : 0; slot < 512; slot++) {
        const [theirs, ours] = [kvmTable[slot]!, softTable[slot]!];
        if (theirs === ours || oracle.toleratesEntry(theirs, ours)) continue;
        found.push(`entry ${slot} at 0x${at.toString(16)}: kvm 0x${theirs.toString(16)}, soft 0x${ours.toString(16)}`);
      }
    }
    return { what, ending, differences: found };
  }

  /** "ok", "hole", "internal" or the fault in words. */
  #onKvm(): string {
    const { end, regs, sregs } = this.#both.runKvm();
    if (end === `exit ${ExitReason.MMIO}`) return "hole";
    if (end !== "halt") return end;
    const vector = (Number(regs.rip) - 1 - HANDLERS) / 4;
    if (vector !== Vector.PF) return "ok";
    const error = new DataView(this.#both.memory.buffer).getUint32(Number(regs.rsp), true);
    return `page fault, error ${error}, at 0x${sregs.cr2.toString(16)}`;
  }

  #inSoftware(operation: Operation, address: bigint): string {
    const va = Number(BigInt.asIntN(64, address));
    const { memory, state: registers } = this.#both.soft.cpu;
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
    const vector = registers.get32(State.faultVector);
    registers.set32(State.faultVector, NO_FAULT);
    return vector === Vector.PF ? `page fault, error ${error}, at 0x${where.toString(16)}` : `vector ${vector}`;
  }

  [Symbol.dispose](): void {
    this.#both[Symbol.dispose]();
  }
}
