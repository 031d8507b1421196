/** Runs many cases on both sides and collects where they differ. */

import { Vector } from "../src/cpu/layout.ts";
import { Decoder } from "../src/decode/decoder.ts";
import { format } from "../src/decode/format.ts";
import { type CodeSize, Instruction, Status } from "../src/decode/instruction.ts";
import { IS_AMD } from "../testing/vendor.ts";
import { amdsOwn } from "./amd.ts";
import { codeAddress, type FuzzCase, initialXsave } from "./case.ts";
import { differences, same } from "./compare.ts";
import { CODE_BYTES, DATA_BYTES, FIRST_WRITABLE_SLOT, physicalOf, SLOTS, SlotPages } from "./layout.ts";
import type { Oracle } from "./oracle.ts";
import { Outcome, type Subject } from "./outcome.ts";
import { IS_VERIFIED } from "./processor.ts";
import { UNDEFINED_FLAGS } from "./undefined-flags.ts";

export interface Mismatch {
  readonly fuzzCase: FuzzCase;
  readonly subject: string;
  readonly mnemonic: string;
  readonly lines: readonly string[];
  /** Why it says nothing, if so: the processor's side may not be the processor's own, or is another vendor's. */
  readonly incomparable: string | undefined;
}

/** Anything that makes cases by number. */
export interface CaseSource {
  make(index: number, slot: number, bits: CodeSize): FuzzCase;
}

export interface Totals {
  /** Cases by subject. */
  compared: Map<string, number>;
  /** Of those compared, the ones that ended in a fault. */
  faults: number;
  /** Cases that one side could not execute, by reason. */
  unable: Map<string, number>;
  /** Cases compared by mnemonic. */
  mnemonics: Map<string, number>;
}

const { UD, SS, GP, PF } = Vector;
/** A page fault's error code: an instruction was fetched. */
const FETCH = 0x10;
const ATTEMPTS = 4;
/** Of one instruction, in bytes. */
const LONGEST = 15;
/** Of the accesses that may be split, in bytes. */
const WIDEST = 16;
const PAGE = 0x1000;
const BATCH = FIRST_WRITABLE_SLOT;

export class Campaign {
  readonly totals: Totals = { compared: new Map(), faults: 0, unable: new Map(), mnemonics: new Map() };
  readonly #oracle: Oracle;
  readonly #subjects: readonly Subject[];
  readonly #real = Array.from({ length: SLOTS }, () => new Outcome());
  readonly #soft = new Outcome();
  readonly #decoder = new Decoder();
  readonly #instruction = new Instruction();
  readonly #bytes = new Uint8Array(32);

  constructor(oracle: Oracle, subjects: readonly Subject[]) {
    this.#oracle = oracle;
    this.#subjects = subjects;
  }

  /** Runs these cases, which lie in different slots, and calls back for each that differs. */
  run(cases: readonly FuzzCase[], report: (mismatch: Mismatch) => void): void {
    for (const suspect of this.#compare(cases, true)) {
      const last = suspect.incomparable !== undefined ? undefined : this.#again(suspect.fuzzCase);
      if (last !== undefined) {
        report(last);
        continue;
      }
      if (suspect.incomparable !== undefined) count(this.totals.compared, suspect.subject, -1);
      count(this.totals.unable, `processor: ${suspect.incomparable ?? "emulated at first"}`);
    }
  }

  /**
   * Where KVM lets ring 3 run on the processor but has to look at some of its faults, as on the machines that Lodge is
   * built on, it now and then emulates an instruction, and that is not the processor. So a case has to differ again and
   * again. And it has to differ without others in memory.
   */
  #again(fuzzCase: FuzzCase): Mismatch | undefined {
    let last: Mismatch | undefined;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      this.#oracle.forgetStates();
      last = this.#compare([fuzzCase], false).find(({ incomparable }) => incomparable === undefined);
      if (last === undefined) return undefined;
    }
    return last;
  }

  /** One run of each; what differs. */
  #compare(cases: readonly FuzzCase[], counts: boolean): Mismatch[] {
    const found: Mismatch[] = [];
    const soft = this.#soft;
    this.#oracle.run(cases, this.#real);
    for (const subject of this.#subjects) {
      subject.load(cases);
      for (const [index, fuzzCase] of cases.entries()) {
        const real = this.#real[index]!;
        const mnemonic = this.#mnemonicOf(fuzzCase);
        if (real.ending !== "unable") subject.run(fuzzCase, soft);
        if (counts) this.#count(real, subject, mnemonic);
        if (real.ending === "unable" || soft.ending === "unable") continue;
        const ignored = IS_VERIFIED ? 0 : (UNDEFINED_FLAGS.get(mnemonic) ?? 0);
        const lines = differences(real, soft, ignored);
        this.#compareMemory(fuzzCase, subject, lines);
        if (lines.length === 0) continue;
        const why = whyEmulated(fuzzCase, mnemonic, { real, soft }, lines) ?? this.#otherVendor(fuzzCase, real, soft);
        found.push({ fuzzCase, subject: subject.name, mnemonic, lines, incomparable: why });
      }
    }
    return found;
  }

  #otherVendor(fuzzCase: FuzzCase, real: Outcome, soft: Outcome): string | undefined {
    if (!IS_AMD || !this.#decode(fuzzCase)) return undefined;
    const faulted = soft.ending === "fault";
    const refused = real.ending === "fault" && (real.vector === GP || real.vector === UD);
    const own = amdsOwn(this.#instruction, this.#bytes, fuzzCase.bits, { faulted, refused });
    return own && `AMD's ${own}`;
  }

  #count(real: Outcome, subject: Subject, mnemonic: string): void {
    if (real.ending === "unable") count(this.totals.unable, `processor: ${mnemonic} ${real.reason}`);
    else if (this.#soft.ending === "unable") count(this.totals.unable, `${subject.name}: ${this.#soft.reason}`);
    else {
      if (real.ending === "fault") this.totals.faults += 1;
      count(this.totals.compared, subject.name);
      count(this.totals.mnemonics, mnemonic);
    }
  }

  #compareMemory({ slot }: FuzzCase, subject: Subject, lines: string[]): void {
    for (const [name, pages, size] of [
      ["data", SlotPages.data, DATA_BYTES],
      ["code", SlotPages.code, CODE_BYTES],
    ] as const) {
      if (name === "code" && slot < FIRST_WRITABLE_SLOT) continue;
      const start = physicalOf(slot, pages.physical);
      if (same(this.#oracle.memory, subject.memory, start, size)) continue;
      for (let at = start; at < start + size; at++) {
        const [a, b] = [this.#oracle.memory[at]!, subject.memory[at]!];
        if (a === b) continue;
        lines.push(
          `${name}+0x${(at - start).toString(16)}: ${a.toString(16)} on the processor, ${b.toString(16)} in software`,
        );
        if (lines.length > 24) return;
      }
    }
  }

  #mnemonicOf(fuzzCase: FuzzCase): string {
    if (fuzzCase.code[0]!.bytes.length > LONGEST) return "(program)";
    return this.#decode(fuzzCase) ? this.#instruction.form.mnemonic : "(undefined)";
  }

  #decode({ code, bits }: FuzzCase): boolean {
    this.#bytes.fill(0);
    this.#bytes.set(code[0]!.bytes.subarray(0, 32));
    return this.#decoder.decode(this.#bytes, 0, 32, bits, this.#instruction) === Status.OK;
  }

  /** The case with as much of its state at zero as leaves it different. */
  minimize(mismatch: Mismatch): Mismatch {
    let smallest = mismatch;
    const attempt = (change: Partial<FuzzCase>) => {
      smallest = this.#again({ ...smallest.fuzzCase, ...change }) ?? smallest;
    };
    attempt({ xsave: initialXsave() });
    attempt({ data: { from: 0, words: [] } });
    attempt({ flags: 2 });
    attempt({ fsBase: 0n });
    attempt({ gsBase: 0n });
    for (let reg = 0; reg < 16; reg++) attempt({ gpr: smallest.fuzzCase.gpr.with(reg, 0n) });
    return smallest;
  }

  #listing({ slot, code }: FuzzCase): string {
    const [first] = code;
    const lines: string[] = [];
    for (let at = 0; at < first!.bytes.length; at += this.#instruction.length) {
      const { bytes } = first!;
      if (this.#decoder.decode(bytes, at, bytes.length, 64, this.#instruction) !== Status.OK) break;
      const address = BigInt(codeAddress(slot, first!.at + at));
      lines.push(`    ${address.toString(16)}: ${format(this.#instruction, address)}`);
    }
    return `\n${lines.join("\n")}`;
  }

  disassemble(fuzzCase: FuzzCase): string {
    if (fuzzCase.code[0]!.bytes.length > LONGEST) return this.#listing(fuzzCase);
    if (!this.#decode(fuzzCase)) return "(undefined)";
    return format(this.#instruction, BigInt(codeAddress(fuzzCase.slot, fuzzCase.code[0]!.at)));
  }
}

/** What that KVM emulates, and not as the processor does it. */
function whyEmulated(
  { bits, code }: FuzzCase,
  mnemonic: string,
  { real, soft }: { real: Outcome; soft: Outcome },
  lines: readonly string[],
): string | undefined {
  if (soft.ending !== "fault") return undefined;
  // An instruction always after #GP or #SS. It then says #UD where it does not know it, #SS by a segment prefix that counts
  // for nothing in 64-bit code, and #PF where an operand leaves the addresses there are.
  if (soft.vector === GP || soft.vector === SS) return "emulated after #GP";
  // All of 32-bit code: an opcode that it does not know is #UD before what follows it is fetched, from a page that faults.
  const isFetch = soft.vector === PF && (soft.error & FETCH) !== 0;
  if (bits === 32 && isFetch && real.ending === "fault" && real.vector === UD)
    return "emulated up to an unknown opcode";
  // And where an access is split between two pages, also by a locked instruction of 64-bit code, which the host's processor
  // traps.
  const isLocked = mnemonic === "xchg" || code[0]!.bytes.subarray(0, LONGEST - 1).includes(0xf0);
  if ((bits === 64 && !isLocked) || soft.vector !== PF) return undefined;
  // What is read and then written is only read at first: a page behind a read-only one is missed before that one refuses.
  const toPageEnd = PAGE - Number(soft.address & 0xfffn);
  const second = soft.address + BigInt(toPageEnd);
  if (toPageEnd < WIDEST && real.vector === PF && real.address === second) return "emulated read of both pages";
  if (toPageEnd !== PAGE) return undefined;
  // Where the second page faults, the first one's part is written by then.
  const isBelowPage = (line: string) => {
    const at = /^data\+(0x\w+):/.exec(line);
    return at !== null && PAGE - (Number(at[1]) & 0xfff) < WIDEST;
  };
  return lines.every(isBelowPage) ? "emulated half of a write" : undefined;
}

function count(map: Map<string, number>, key: string, by = 1): void {
  map.set(key, (map.get(key) ?? 0) + by);
}

/** Programs `first` to `first + count - 1`, in batches. */
export function* programBatches(source: CaseSource, first: number, total: number): Generator<FuzzCase[]> {
  for (let done = 0; done < total; done += SLOTS) {
    const size = Math.min(SLOTS, total - done);
    yield Array.from({ length: size }, (_, slot) => source.make(first + done + slot, slot, 64));
  }
}

/** Cases `first` to `first + count - 1` of a source, in batches. Every so many are 32-bit code. */
export function* batches(source: CaseSource, first: number, total: number): Generator<FuzzCase[]> {
  for (let done = 0; done < total; done += BATCH) {
    const size = Math.min(BATCH, total - done);
    yield Array.from({ length: size }, (_, slot) => {
      const index = first + done + slot;
      return source.make(index, slot, index % LEGACY_EVERY === LEGACY_EVERY - 1 ? 32 : 64);
    });
  }
}
const LEGACY_EVERY = 25;
