/**
 * Makes cases of many instructions: straight pieces, branches forward, loops that end, and in slots whose code can be
 * written, code that changes itself. They run as a whole on both sides.
 */

import { Decoder } from "../src/decode/decoder.ts";
import type { Form } from "../src/decode/form.ts";
import { type CodeSize, Instruction, Status } from "../src/decode/instruction.ts";
import { codeAddress, exitCode, type FuzzCase } from "./case.ts";
import { encode, isString } from "./encode.ts";
import { type Coverage, knows, startState } from "./generate.ts";
import { FIRST_WRITABLE_SLOT, HIGH_ALIAS, linearOf, SlotPages } from "./layout.ts";
import { Random } from "./random.ts";

/** Counts loops: no other instruction names it. */
export const COUNTER = 14;
export const START = 0x800;
export const RSP = 4;
/** What would end nearly every program at once. */
const LEFT_OUT: ReadonlySet<string> = new Set(["div", "idiv", "leave", "popf"]);

/** A program as it grows: bytes from {@link START} on, and the immediates that code may overwrite. */
export class Program {
  readonly slot: number;
  readonly bytes: number[] = [];
  /** Offsets in `bytes` of immediate bytes. */
  readonly immediates: number[] = [];

  constructor(slot: number) {
    this.slot = slot;
  }

  /** The linear address of the next byte. */
  get here(): number {
    return codeAddress(this.slot, START + this.bytes.length);
  }

  push(...bytes: number[]): void {
    this.bytes.push(...bytes);
  }

  push32(value: number): void {
    this.push(value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, (value >> 24) & 0xff);
  }
}

export class ProgramGenerator {
  protected readonly seed: number;
  /** Registers that random instructions leave alone. */
  protected readonly reserved: ReadonlySet<number> = new Set([RSP, COUNTER]);
  /** For programs that shall not end early: how much of the data is used, and what is left out. */
  protected readonly tame: { readonly dataBytes: number; readonly leftOut: ReadonlySet<string> } | undefined;
  readonly #forms: readonly (readonly Form[])[];
  readonly #decoder = new Decoder();
  readonly #instruction = new Instruction();

  constructor(seed: number, { known }: Coverage) {
    this.seed = seed;
    this.#forms = [...known.values()].filter(
      ([form]) => form!.flow === "next" && !isString(form!) && !LEFT_OUT.has(form!.mnemonic),
    );
  }

  make(index: number, slot: number, bits: CodeSize): FuzzCase {
    const random = new Random(this.seed ^ 0x70726f67, index);
    const program = new Program(slot);
    let left = 5 + random.below(26);
    while (left > 0) left -= this.#piece(random, program, left);
    const end = START + program.bytes.length;
    const fuzzCase = startState(random, slot, bits);
    fuzzCase.gpr[RSP] = BigInt(linearOf(slot, SlotPages.data.linear + 0x1000));
    if (random.once(4)) fuzzCase.gpr[RSP]! += HIGH_ALIAS;
    fuzzCase.code = [
      { at: START, bytes: Uint8Array.from(program.bytes) },
      { at: end, bytes: exitCode(slot, bits, 0, end) },
    ];
    return fuzzCase;
  }

  /** Adds some instructions; returns how many of the program's they count for. */
  #piece(random: Random, program: Program, left: number): number {
    const kind = random.below(16);
    const writable = program.slot >= FIRST_WRITABLE_SLOT;
    if (kind < 3 && left > 2) {
      // A branch over what follows.
      const over = new Program(program.slot);
      over.bytes.length = program.bytes.length + 2;
      const count = 1 + random.below(Math.min(6, left - 1));
      for (let index = 0; index < count; index++) this.single(random, over);
      const body = over.bytes.slice(program.bytes.length + 2);
      program.push(0x70 + random.below(16), body.length, ...body);
      return count + 1;
    }
    if (kind === 3 && left > 3) {
      program.push(0x41, 0xbe);
      program.push32(1 + random.below(6));
      const start = program.bytes.length;
      const count = 1 + random.below(Math.min(8, left - 2));
      for (let index = 0; index < count; index++) {
        if (writable && random.once(4)) this.overwrite(random, program);
        else this.single(random, program);
      }
      // dec r14d; jnz start
      program.push(0x41, 0xff, 0xce, 0x0f, 0x85);
      program.push32(start - (program.bytes.length + 4));
      return count + 2;
    }
    if (writable && kind < 7) this.overwrite(random, program);
    else this.single(random, program);
    return 1;
  }

  /** Writes a byte of an immediate: of an instruction that has been, or of the one right behind. */
  protected overwrite(random: Random, program: Program): void {
    const ahead = program.immediates.length === 0 || random.once(2);
    // movb $value, address(%rip) has 7 bytes; add $value, %reg with an immediate of 32 bits, 7 with its REX prefix.
    const length = 7;
    const target = ahead ? program.bytes.length + length + 3 + random.below(4) : random.pick(program.immediates);
    program.push(0xc6, 0x05);
    program.push32(target - (program.bytes.length + 5));
    program.push(random.below(256));
    if (!ahead) return;
    program.push(0x48, 0x81, 0xc0 + random.pick([0, 1, 2, 3, 6, 7]));
    for (let index = 0; index < 4; index++) program.immediates.push(program.bytes.length + index);
    program.push32(random.word());
  }

  protected single(random: Random, program: Program): void {
    for (;;) {
      const form = random.pick(random.pick(this.#forms));
      const encoding = encode(random, form, 64, true);
      const bytes = new Uint8Array(32);
      bytes.set(encoding.bytes);
      if (this.#decoder.decode(bytes, 0, bytes.length, 64, this.#instruction) !== Status.OK) continue;
      const { form: decoded, operands, operandCount, length } = this.#instruction;
      if (!knows(decoded) || decoded.flow !== "next" || isString(decoded) || LEFT_OUT.has(decoded.mnemonic)) continue;
      if (this.tame?.leftOut.has(decoded.mnemonic)) continue;
      const named = operands.slice(0, operandCount);
      if (named.some(({ kind, bank, reg }) => kind === "reg" && bank === "gpr" && this.reserved.has(reg))) continue;
      const memory = named.find(({ kind }) => kind === "mem");
      if (memory !== undefined) {
        if (!memory.ripRelative || memory.segment >= 4) continue;
        // A bit number in a register leads far away.
        if (decoded.mnemonic.startsWith("bt") && named[1]!.kind === "reg") continue;
        // Vector instructions that find their operand unaligned end the program.
        const aligned = memory.size >= 16 && (this.tame !== undefined || !random.once(32));
        const offset = random.below(this.tame?.dataBytes ?? 0x1f80) & (aligned ? -16 : -1);
        const data = linearOf(program.slot, SlotPages.data.linear + offset);
        let displacement = data - (program.here + length);
        for (let index = 0; index < 4; index++) {
          bytes[encoding.displacement + index] = displacement & 0xff;
          displacement >>= 8;
        }
      }
      program.push(...bytes.subarray(0, length));
      return;
    }
  }
}
