/**
 * Page walks in WebAssembly, for what happens all the time: loads and stores by 4-level paging (Intel SDM vol. 3, 4.5), where
 * tables and page lie in memory that is nothing special ({@link Ram}), and pages have 4 KiB or 2 MiB. It fills the
 * lookaside buffers or records a page fault, as `Access` does, which has all other cases and these as well;
 * quick-walk.test.ts compares the two.
 */

import { Budget } from "../cpu/budget.ts";
import { NO_FAULT, Ram, State, Tlb, TlbList, Translated, Vector } from "../cpu/layout.ts";
import type { Code } from "../wasm/code.ts";
import type { I32, I64, Local } from "../wasm/expr.ts";
import type { ModuleBuilder } from "../wasm/module.ts";
import { c32, c64, call, compareExchange, i32, i64, select } from "../wasm/ops.ts";
import { AccessKind } from "./access.ts";
import { entryOffset } from "./lookaside-entry.ts";
import { cr0, cr4, efer, PageFault, Pte } from "./paging.ts";

/** What became of a walk. */
export const Walked = {
  /** The lookaside buffer has the page, for what was asked. */
  FILLED: 0,
  /** A page fault is recorded. */
  FAULT: 1,
  /** `Access` has to do it; nothing has changed but accessed bits. */
  OTHER: 2,
} as const;

/** The address in an entry: bits 12 to 51. */
const ADDRESS = 0xf_ffff_ffff_f000n;
const NO_EXECUTE = 1n << 63n;
const PAGE_2M = 21;

/** Adds the function (linear address, `AccessKind`) → {@link Walked}; returns its index. `memory`: {@link addMemory}'s. */
export function addQuickWalk(module: ModuleBuilder, base: number, memory: number): number {
  const { index, code } = module.function(["i64", "i32"], ["i32"]);
  new WalkWriter(code, base, memory).write();
  return index;
}

/** Adds (guest physical address) → where that is in linear memory; -1 when it is in no piece that is known here. */
export function addMemory(module: ModuleBuilder, base: number): number {
  const { index, code } = module.function(["i64"], ["i32"]);
  const gpa = code.parameters[0] as Local<"i64">;
  for (let piece = 0; piece < Ram.pieces; piece++) {
    const at = (field: number) => i64.load(c32(base + State.ram + piece * Ram.size + field));
    code.if(i64.lt_u(i64.sub(gpa, at(Ram.start)), at(Ram.length)), () =>
      code.return(i32.wrap(i64.add(gpa, at(Ram.delta)))),
    );
  }
  code.return(c32(-1));
  code.unreachable();
  return index;
}

class WalkWriter {
  readonly #code: Code;
  readonly #base: number;
  readonly #memory: number;
  readonly #linear: Local<"i64">;
  readonly #kind: Local<"i32">;

  constructor(code: Code, base: number, memory: number) {
    this.#code = code;
    this.#base = base;
    this.#memory = memory;
    [this.#linear, this.#kind] = code.parameters as [Local<"i64">, Local<"i32">];
  }

  write(): void {
    const code = this.#code;
    const linear = this.#linear;
    const { WRITE, STACK, FILL } = AccessKind;
    this.#leaveIf(i32.or(i32.eqz(this.#word(State.quick)), i32.and(this.#kind, c32(~(WRITE | STACK | FILL)))));
    const isLong = i32.and(this.#word(State.efer), c32(efer.LMA));
    this.#leaveIf(i32.or(i32.eqz(isLong), i64.ne(i64.shr_s(i64.shl(linear, c64(16)), c64(16)), linear)));
    code.store("i32", this.#at(State.budget), 0, i32.sub(this.#word(State.budget), c32(Budget.walk)));

    const isWrite = code.let(i32.and(this.#kind, c32(WRITE)));
    const buffer = code.let(this.#word(State.tlb));
    const isUser = code.let(i32.eq(buffer, this.#bank(Tlb.USER)));
    const faultIf = (condition: I32, bits: number) =>
      code.if(condition, () => this.#fault(bits, isWrite, isUser), undefined, false);

    const executable = i32.and(this.#word(State.efer), c32(efer.NXE));
    const reserved = code.let(
      i64.or(i64.load(this.#at(State.reservedBits)), select(executable, c64(0), c64(NO_EXECUTE))),
    );
    const allowed = code.let(c64(-1));
    const table = code.let(i64.and(i64.load(this.#at(State.cr3)), c64(ADDRESS)));
    const shift = code.let(c32(12));
    const entry = code.local("i64");
    const entries: { readonly at: Local<"i32">; readonly low: Local<"i32"> }[] = [];
    code.block((found) => {
      for (const level of [39, 30, PAGE_2M, 12]) {
        const offset = i64.and(i64.shr_u(linear, c64(level - 3)), c64(0xff8));
        const at = code.let(call("i32", this.#memory, i64.add(table, offset)));
        this.#leaveIf(i32.eq(at, c32(-1)));
        code.set(entry, i64.load(at));
        const low = code.let(i32.wrap(entry));
        entries.push({ at, low });
        faultIf(i32.eqz(i32.and(low, c32(Pte.P))), 0);
        this.#leaveIf(i64.ne(i64.and(entry, reserved), c64(0)));
        code.set(allowed, i64.and(allowed, entry));
        code.set(table, i64.and(entry, c64(ADDRESS)));
        if (level === 12) break;
        const isLarge = i32.and(low, c32(Pte.PS));
        if (level !== PAGE_2M) this.#leaveIf(isLarge);
        else {
          code.if(isLarge, () => {
            this.#leaveIf(i32.and(low, c32(2 ** PAGE_2M - 2 ** 13)));
            const within = i64.and(linear, c64(2 ** PAGE_2M - 4096));
            code.set(table, i64.or(i64.and(table, c64(-(2 ** PAGE_2M))), within));
            code.set(shift, c32(PAGE_2M));
            code.br(found);
          });
        }
      }
    });

    const rights = code.let(i32.wrap(allowed));
    const isUsers = code.let(i32.and(rights, c32(Pte.US)));
    const protects = i32.or(isUser, i32.and(this.#word(State.cr0), c32(cr0.WP)));
    const writable = code.let(i32.or(i32.and(rights, c32(Pte.RW)), i32.eqz(protects)));
    // SMAP holds where the bank of the supervisor with access to user pages is not in force.
    const smap = i32.and(this.#word(State.cr4), c32(cr4.SMAP));
    const isClosed = i32.and(i32.ne(buffer, this.#bank(Tlb.SUPERVISOR_AC)), i32.ne(smap, c32(0)));
    const isOthers = select(isUser, i32.eqz(isUsers), i32.and(i32.ne(isUsers, c32(0)), isClosed));
    faultIf(i32.or(isOthers, i32.and(i32.ne(isWrite, c32(0)), i32.eqz(writable))), PageFault.P);

    // The page itself.
    const host = code.let(call("i32", this.#memory, table));
    this.#leaveIf(i32.eq(host, c32(-1)));
    const codeByte = i32.load8_u(i32.add(this.#word(State.codeBits), i32.shr_u(host, c32(15))));
    const holdsCode = code.let(i32.and(i32.shr_u(codeByte, i32.and(i32.shr_u(host, c32(12)), c32(7))), c32(1)));
    this.#leaveIf(i32.and(i32.ne(isWrite, c32(0)), holdsCode));
    this.#mark(entries, shift, isWrite);

    const isGlobal = i32.and(
      i32.ne(i64AndBit(entry, Pte.G), c32(0)),
      i32.ne(i32.and(this.#word(State.cr4), c32(cr4.PGE)), c32(0)),
    );
    const kind = code.let(i32.or(shift, select(isGlobal, c32(TlbList.GLOBAL), c32(0))));
    this.#fill(buffer, Tlb.read, host, kind);
    // Another view's write may have to set the D bit.
    const isDirty = i32.or(i32.ne(isWrite, c32(0)), i32.ne(i64AndBit(entry, Pte.D), c32(0)));
    code.if(i32.and(i32.and(i32.ne(writable, c32(0)), isDirty), i32.eqz(holdsCode)), () =>
      this.#fill(buffer, Tlb.write, host, kind),
    );
    code.if(i32.ne(shift, c32(12)), () => {
      const piece = i32.and(i32.wrap(i64.shr_u(linear, c64(Translated.largeShift))), c32(Translated.entries - 1));
      code.store("i32_8", i32.add(piece, this.#at(Translated.large)), 0, c32(1));
    });
    code.return(c32(Walked.FILLED));
    code.unreachable();
  }

  /** Sets the A bits on the way and the D bit of the last entry (4.8). */
  #mark(entries: readonly { readonly at: Local<"i32">; readonly low: Local<"i32"> }[], shift: I32, isWrite: I32): void {
    const code = this.#code;
    const mark = (at: I32, low: Local<"i32">, bits: I32) => {
      const wanted = code.let(i32.or(low, bits));
      code.if(i32.ne(wanted, low), () => {
        // Another processor changed an entry meanwhile: what was read counts no more.
        this.#leaveIf(i32.ne(compareExchange(4, at, low, wanted) as I32, low));
      });
      code.release(wanted);
    };
    const last = code.let(i32.or(c32(Pte.A), select(isWrite, c32(Pte.D), c32(0))));
    for (const [level, { at, low }] of entries.entries()) {
      if (level < 2) mark(at, low, c32(Pte.A));
      else if (level === 2) mark(at, low, select(i32.eq(shift, c32(12)), c32(Pte.A), last));
      else code.if(i32.eq(shift, c32(12)), () => mark(at, low, last));
    }
  }

  /** As `LookasideBuffers.fill`. */
  #fill(buffer: I32, table: number, host: I32, kind: I32): void {
    const code = this.#code;
    const entry = code.let(i32.add(i32.add(buffer, entryOffset(this.#linear)), c32(table)));
    const slot = code.let(i32.shr_u(i32.sub(entry, this.#at(State.tlbs)), c32(Math.log2(Tlb.entrySize))));
    const marks = i32.and(i32.load(entry), c32(Tlb.EMPTY | Tlb.LISTED));
    code.if(
      i32.eq(marks, c32(Tlb.EMPTY)),
      () => {
        const count = code.let(this.#word(State.tlbFilled));
        code.store("i32_16", i32.add(i32.shl(count, c32(1)), this.#at(TlbList.filled)), 0, slot);
        code.store("i32", this.#at(State.tlbFilled), 0, i32.add(count, c32(1)));
      },
      () =>
        code.if(i32.eqz(i32.and(kind, c32(TlbList.GLOBAL))), () =>
          code.store("i32", this.#at(State.tlbSettled), 0, c32(0)),
        ),
    );
    code.store("i32_8", i32.add(slot, this.#at(TlbList.kinds)), 0, kind);
    const page = code.let(i64.and(this.#linear, c64(-4096)));
    code.store("i64", entry, Tlb.tag, page);
    const addend = i64.sub(i64.extend_i32_u(host), i64.and(page, c64(0xffffffff)));
    code.store("i64", entry, Tlb.addend, addend);
  }

  #fault(bits: number, isWrite: I32, isUser: I32): void {
    const code = this.#code;
    const error = i32.or(
      c32(bits),
      i32.or(select(isWrite, c32(PageFault.W), c32(0)), select(isUser, c32(PageFault.U), c32(0))),
    );
    // The first one that an instruction records stays.
    code.if(i32.eq(this.#word(State.faultVector), c32(NO_FAULT)), () => {
      code.store("i32", this.#at(State.faultVector), 0, c32(Vector.PF));
      code.store("i32", this.#at(State.faultError), 0, error);
      code.store("i64", this.#at(State.faultAddress), 0, this.#linear);
    });
    code.return(c32(Walked.FAULT));
  }

  #leaveIf(condition: I32): void {
    this.#code.if(condition, () => this.#code.return(c32(Walked.OTHER)), undefined, false);
  }

  #bank(number: number): I32 {
    return this.#at(State.tlbs + number * Tlb.bankSize);
  }
  #at(offset: number): I32 {
    return c32(this.#base + offset);
  }
  #word(offset: number): I32 {
    return i32.load(this.#at(offset));
  }
}

function i64AndBit(value: I64, bit: number): I32 {
  return i32.and(i32.wrap(value), c32(bit));
}
