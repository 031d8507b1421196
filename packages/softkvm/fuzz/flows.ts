/**
 * Makes programs whose control flow is what compiled code has to follow: a loop that calls functions through a table, and
 * functions with branches, loops, tables of jumps, calls of each other and returns in several places. They run long enough
 * for regions to be found, to grow and to be compiled again; in slots whose code can be written they change themselves.
 */

import type { CodeSize } from "../src/decode/instruction.ts";
import { exitCode, type FuzzCase, initialXsave } from "./case.ts";
import { startState } from "./generate.ts";
import { CODE_BYTES, FIRST_WRITABLE_SLOT, linearOf, SlotPages } from "./layout.ts";
import { COUNTER, Program, ProgramGenerator, RSP, START } from "./programs.ts";
import { Random } from "./random.ts";

/** Registers that direct the flow: a target, an index, the loops' counter, and the numbers that decide. */
const FLOW: ReadonlySet<number> = new Set([RSP, 12, 13, COUNTER, 15]);
/** What an entry of a table of jumps takes. */
const ENTRY = 8;
/** Room for a function and what follows the last one. */
const RESERVE = 0x300;

export class FlowGenerator extends ProgramGenerator {
  protected override readonly reserved = FLOW;
  /** The stack lies between. */
  protected override readonly tame = { dataBytes: 0xc00, leftOut: new Set(["push", "pop", "pushf", "xlat"]) };

  override make(index: number, slot: number, bits: CodeSize): FuzzCase {
    const random = new Random(this.seed ^ 0x666c6f77, index);
    const program = new Program(slot);
    const writable = slot >= FIRST_WRITABLE_SLOT;
    this.#driver(random, program, writable ? 1 + random.below(12) : 100 + random.below(1200));
    const end = START + program.bytes.length;
    const fuzzCase = startState(random, slot, bits);
    if (random.once(2)) fuzzCase.xsave = initialXsave();
    fuzzCase.flags &= ~0x400;
    fuzzCase.gpr[RSP] = BigInt(linearOf(slot, SlotPages.data.linear + 0x1000));
    fuzzCase.code = [
      { at: START, bytes: Uint8Array.from(program.bytes) },
      { at: end, bytes: exitCode(slot, bits, 0, end) },
    ];
    return fuzzCase;
  }

  /** Loops so many times over calls of functions that lie in front of the loop's end. */
  #driver(random: Random, program: Program, times: number): void {
    program.push(0x41, 0xbe); // mov $times, %r14d
    program.push32(times);
    program.push(0x41, 0xbf); // mov $seed, %r15d
    program.push32(random.word());
    const count = 2 ** (1 + random.below(3));
    const over = jump(program);
    const functions: number[] = [];
    for (let index = 0; index < count; index++) {
      if (random.once(3)) program.push(...Array(random.below(0x180)).fill(0xcc));
      const start = program.bytes.length;
      // Calls go back to those that are there already, so that they end.
      this.#function(random, program, functions);
      functions.push(start);
      if (START + program.bytes.length > CODE_BYTES - RESERVE) break;
    }
    while (functions.length < count) functions.push(random.pick(functions));
    const table = program.bytes.length;
    for (const start of functions) entry(program, start);
    land(program, over);
    const loop = program.bytes.length;
    program.push(0x45, 0x69, 0xff); // imul $1103515245, %r15d, %r15d
    program.push32(1103515245);
    program.push(0x41, 0x81, 0xc7); // add $12345, %r15d
    program.push32(12345);
    choose(program, 16 + random.below(8), count, table);
    program.push(0x41, 0xff, 0xd4); // call *%r12
    if (random.once(2)) this.single(random, program);
    program.push(0x41, 0xff, 0xce, 0x0f, 0x85); // dec %r14d; jnz loop
    program.push32(loop - (program.bytes.length + 4));
  }

  #function(random: Random, program: Program, others: readonly number[]): void {
    const writable = program.slot >= FIRST_WRITABLE_SLOT;
    for (let pieces = 1 + random.below(5); pieces > 0; pieces--) {
      switch (random.below(9)) {
        case 0: {
          // A branch, which may return early.
          program.push(0x0f, 0x80 + random.below(16));
          const hole = program.bytes.length;
          program.push32(0);
          this.#straight(random, program);
          if (random.once(2)) program.push(0xc3);
          land(program, hole);
          break;
        }
        case 1: {
          program.push(0x41, 0x56, 0x41, 0xbe); // push %r14; mov $n, %r14d
          program.push32(1 + random.below(5));
          const start = program.bytes.length;
          this.#straight(random, program);
          if (others.length > 0 && random.once(3)) call(program, random.pick(others));
          program.push(0x41, 0xff, 0xce, 0x0f, 0x85);
          program.push32(start - (program.bytes.length + 4));
          program.push(0x41, 0x5e); // pop %r14
          break;
        }
        case 2: {
          // A switch over four cases, some of which fall through.
          const over = jump(program);
          const ends: number[] = [];
          const cases = Array.from({ length: 4 }, () => {
            const start = program.bytes.length;
            this.#straight(random, program);
            if (!random.once(3)) ends.push(jump(program));
            return start;
          });
          ends.push(jump(program));
          const table = program.bytes.length;
          for (const start of cases) entry(program, start);
          land(program, over);
          choose(program, random.below(16), 4, table);
          program.push(0x41, 0xff, 0xe4); // jmp *%r12
          for (const end of ends) land(program, end);
          break;
        }
        case 3:
          if (others.length > 0) call(program, random.pick(others));
          break;
        case 4:
          if (writable) this.overwrite(random, program);
          break;
        default:
          this.#straight(random, program);
      }
    }
    if (random.once(4)) program.push(0xc2, 0, 0);
    else program.push(0xc3);
  }

  #straight(random: Random, program: Program): void {
    for (let count = 1 + random.below(4); count > 0; count--) this.single(random, program);
  }
}

/** Points %r12 at one of a table's entries, by some bits of %r15. */
function choose(program: Program, shift: number, count: number, table: number): void {
  program.push(0x45, 0x89, 0xfd, 0x41, 0xc1, 0xed, shift); // mov %r15d, %r13d; shr $shift, %r13d
  program.push(0x41, 0x83, 0xe5, count - 1); // and $count - 1, %r13d
  program.push(0x4c, 0x8d, 0x25); // lea table(%rip), %r12
  program.push32(table - (program.bytes.length + 4));
  program.push(0x4f, 0x8d, 0x24, 0xec); // lea (%r12, %r13, 8), %r12
}

function entry(program: Program, target: number): void {
  const start = program.bytes.length;
  program.push(0xe9);
  program.push32(target - (start + 5));
  while (program.bytes.length < start + ENTRY) program.push(0x90);
}

function call(program: Program, target: number): void {
  program.push(0xe8);
  program.push32(target - (program.bytes.length + 4));
}

/** A jump forward; {@link land} says to where. */
function jump(program: Program): number {
  program.push(0xe9);
  program.push32(0);
  return program.bytes.length - 4;
}

/** A jump or branch with its displacement at `hole` leads here. */
function land(program: Program, hole: number): void {
  let distance = program.bytes.length - (hole + 4);
  for (let index = 0; index < 4; index++) {
    program.bytes[hole + index] = distance & 0xff;
    distance >>= 8;
  }
}
