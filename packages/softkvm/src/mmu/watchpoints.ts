/**
 * Data breakpoints (Intel SDM vol. 3, 17.2): the pages that they lie on never enter the lookaside buffers, so that each
 * access to them comes by here. Instruction breakpoints are the fetching side's.
 */

import { State } from "../cpu/layout.ts";
import type { CpuState } from "../cpu/state.ts";

/** DR7: two enable bits for each breakpoint, from bit 0; four bits of kind and length for each, from bit 16. */
const ENABLE = 0x3;
const KIND_SHIFT = 16;
/** Kinds: R/W 0 is execution, 2 an I/O port. */
const WRITES = 1;
const READS_AND_WRITES = 3;
/** LEN: in bytes. */
const LENGTHS = [1, 2, 8, 4] as const;

interface Watch {
  readonly bit: number;
  readonly start: number;
  readonly end: number;
  readonly reads: boolean;
}

export class Watchpoints {
  /** Whether there are any. */
  active = false;
  /** Bits of DR6 (B0 to B3) of what the running instruction hit. */
  hits = 0;
  #watches: Watch[] = [];

  /** What the debugger watches, by DR0 to DR7, instead of the guest. */
  #override: readonly bigint[] | undefined;

  /** The debugger's registers stand in the place of the guest's from now on; undefined: they do not. As {@link update}. */
  override(state: CpuState, registers: readonly bigint[] | undefined): boolean {
    this.#override = registers;
    return this.update(state);
  }

  /** After DR0 to DR3 or DR7 changed; the lookaside buffers are flushed by the caller when this returns true. */
  update(state: CpuState): boolean {
    const override = this.#override;
    const before = this.active;
    const control = override ? Number((override[7] ?? 0n) & 0xffffffffn) : state.get32(State.dr + 5 * 8);
    this.#watches = [];
    for (let index = 0; index < 4; index++) {
      if (((control >>> (index * 2)) & ENABLE) === 0) continue;
      const kind = (control >>> (KIND_SHIFT + index * 4)) & 3;
      if (kind !== WRITES && kind !== READS_AND_WRITES) continue;
      const size = LENGTHS[(control >>> (KIND_SHIFT + 2 + index * 4)) & 3]!;
      const address = Number(BigInt.asIntN(64, override?.[index] ?? state.get64(State.dr + index * 8)));
      const start = address - (((address % size) + size) % size);
      this.#watches.push({ bit: 1 << index, start, end: start + size, reads: kind === READS_AND_WRITES });
    }
    this.active = this.#watches.length > 0;
    return this.active || before;
  }

  /** Whether a breakpoint lies on the page of an address. */
  covers(va: number): boolean {
    const page = Math.floor(va / 4096) * 4096;
    return this.#watches.some((watch) => watch.start < page + 4096 && page < watch.end);
  }

  note(va: number, size: number, write: boolean): void {
    for (const watch of this.#watches) {
      if ((write || watch.reads) && watch.start < va + size && va < watch.end) this.hits |= watch.bit;
    }
  }
}
