/**
 * The exact side of vector instructions: what emitted code calls when WebAssembly's result might not be the processor's.
 * Operands are the two halves of `State.transfer`, the result is put into its first.
 */

import { State, Vector } from "../cpu/layout.ts";
import type { CpuState } from "../cpu/state.ts";
import { approximate } from "./approximations.ts";
import {
  add,
  convert,
  divide,
  extreme,
  flagsOf,
  fromHalf,
  fromInteger,
  holdsFor,
  multiply,
  multiplyAdd,
  roundToIntegral,
  squareRoot,
  subtract,
  toHalf,
  toInteger,
} from "./arithmetic.ts";
import { DOUBLE, type Format, SINGLE } from "./format.ts";
import { Negate, UnitOperation } from "./operations.ts";
import { Environment, Rounding } from "./rounding.ts";
import { compareStrings, matchIndex, writeMatchMask } from "./strings.ts";

/** CR4.OSXMMEXCPT: without it, unmasked exceptions are #UD (SDM vol. 1, 11.5.4). */
const OSXMMEXCPT = 0x400;

const minimum = extreme(-1);
const maximum = extreme(1);

export class VectorUnit {
  readonly #state: CpuState;
  readonly #view: DataView;
  readonly #a: number;
  readonly #b: number;
  readonly #third: number;
  /** Exceptions that wait for `COMMIT`, by stage. */
  readonly #held: Environment[] = [];

  constructor(state: CpuState) {
    this.#state = state;
    this.#view = state.view;
    this.#a = state.base + State.transfer;
    this.#b = this.#a + 16;
    this.#third = state.base + State.third;
  }

  /** Does an operation, a `UnitOperation`. Returns 1 when it raised an exception instead. */
  run(operation: number, argument: number): number {
    const format = operation & UnitOperation.DOUBLE ? DOUBLE : SINGLE;
    const count = operation & UnitOperation.SCALAR ? 1 : 16 / format.bytes;
    if (operation === UnitOperation.COMMIT) return this.#commit();
    const held = operation & UnitOperation.HOLD ? operation >> UnitOperation.STAGE_SHIFT : -1;
    const environment = this.#held[held] ?? new Environment(this.#state.get32(State.mxcsr));
    this.#compute(operation & 0xff, argument, format, count, environment);
    if (held < 0) return this.#complete(environment);
    this.#held[held] = environment;
    return 0;
  }

  /** What the stages raised, one after another, until one ends the instruction. */
  #commit(): number {
    let faulted = 0;
    for (const { before, after } of Object.values(this.#held)) {
      const environment = new Environment(this.#state.get32(State.mxcsr));
      environment.before = before;
      environment.after = after;
      faulted = this.#complete(environment);
      if (faulted) break;
    }
    this.#held.length = 0;
    return faulted;
  }

  #complete(environment: Environment): number {
    this.#state.set32(State.mxcsr, environment.mxcsr);
    if (environment.completes) return 0;
    this.#state.raise(this.#state.get32(State.cr4) & OSXMMEXCPT ? Vector.XM : Vector.UD);
    return 1;
  }

  #compute(operation: number, argument: number, format: Format, count: number, environment: Environment): void {
    const { ADD, SUB, MUL, DIV, SQRT, MIN, MAX, ADD_SUB, COMPARE } = UnitOperation;
    const each = (compute: (a: bigint, b: bigint, lane: number) => bigint) => {
      for (let lane = 0; lane < count; lane++) {
        this.#set(format, lane, compute(this.#get(format, this.#a, lane), this.#get(format, this.#b, lane), lane));
      }
    };
    switch (operation) {
      case ADD:
        each((a, b) => add(format, a, b, environment));
        return;
      case SUB:
        each((a, b) => subtract(format, a, b, environment));
        return;
      case MUL:
        each((a, b) => multiply(format, a, b, environment));
        return;
      case DIV:
        each((a, b) => divide(format, a, b, environment));
        return;
      case SQRT:
        each((_, b) => squareRoot(format, b, environment));
        return;
      case MIN:
        each((a, b) => minimum(format, a, b, environment));
        return;
      case MAX:
        each((a, b) => maximum(format, a, b, environment));
        return;
      case ADD_SUB:
        each((a, b, lane) => (lane & 1 ? add : subtract)(format, a, b, environment));
        return;
      case COMPARE:
        each((a, b) => (holdsFor(argument, format, a, b, environment) ? -1n : 0n));
        return;
      case UnitOperation.ROUND:
        each((a) => roundToIntegral(format, a, argument, environment));
        return;
      case UnitOperation.ORDERED:
      case UnitOperation.UNORDERED: {
        const quiet = operation === UnitOperation.UNORDERED;
        const flags = flagsOf(format, this.#get(format, this.#a, 0), this.#get(format, this.#b, 0), quiet, environment);
        this.#view.setUint32(this.#a, flags, true);
        return;
      }
      case UnitOperation.RECIPROCAL:
      case UnitOperation.RECIPROCAL_ROOT:
        each((_, b) => BigInt(approximate(Number(b), operation === UnitOperation.RECIPROCAL_ROOT)));
        return;
      case UnitOperation.MULTIPLY_ADD:
        each((a, b, lane) => this.#multiplyAdd(format, a, b, lane, argument, environment));
        return;
      case UnitOperation.FROM_HALF:
        each((a) => fromHalf(a, environment));
        return;
      case UnitOperation.TO_HALF: {
        // Its immediate may say how to round, and results may be denormal whatever MXCSR says.
        const own = environment.withRounding(argument & 4 ? environment.rounding : argument & 3);
        each((a) => toHalf(a, own));
        environment.before |= own.before;
        environment.after |= own.after;
        return;
      }
      case UnitOperation.STRING_INDEX:
      case UnitOperation.STRING_MASK:
        this.#strings(argument, operation === UnitOperation.STRING_INDEX);
        return;
      default:
        this.#convert(operation, argument, format, count, environment);
    }
  }

  #convert(operation: number, argument: number, format: Format, count: number, environment: Environment): void {
    const rounding = argument === 1 ? Rounding.TRUNCATE : environment.rounding;
    const integer = { bytes: operation === UnitOperation.TO_INT64 || operation === UnitOperation.FROM_INT64 ? 8 : 4 };
    const bits = (integer.bytes * 8) as 32 | 64;
    const other = format === SINGLE ? DOUBLE : SINGLE;
    switch (operation) {
      case UnitOperation.CONVERT: {
        const lanes = Math.min(count, 2);
        this.#between(format, other, lanes, (a) => convert(format, other, a, environment));
        return;
      }
      case UnitOperation.FROM_INT32:
      case UnitOperation.FROM_INT64:
        this.#between(integer, format, count, (a) => fromInteger(format, BigInt.asIntN(bits, a), environment));
        return;
      case UnitOperation.TO_INT32:
      case UnitOperation.TO_INT64:
        this.#between(format, integer, count, (a) => toInteger(format, a, bits, rounding, environment));
        return;
      default:
        throw new Error(`the vector unit has no operation ${operation}`);
    }
  }

  #multiplyAdd(format: Format, a: bigint, b: bigint, lane: number, negate: number, environment: Environment): bigint {
    const negated = {
      product: (negate & Negate.PRODUCT) !== 0,
      addend: (negate & (lane & 1 ? Negate.ODD : Negate.EVEN)) !== 0,
    };
    return multiplyAdd(format, [a, b, this.#get(format, this.#third, lane)], negated, environment);
  }

  #strings(argument: number, index: boolean): void {
    const immediate = argument & 0xff;
    const lengths = { a: (argument >> 8) & 0xff, b: (argument >> 16) & 0xff };
    const result = compareStrings(this.#view, this.#a, this.#b, immediate, lengths);
    if (index) this.#view.setUint32(this.#a, matchIndex(result, immediate), true);
    else writeMatchMask(this.#view, this.#a, result, immediate);
    this.#view.setUint32(this.#b, result.flags, true);
  }

  /** Lanes of one size to lanes of another, zeros above. */
  #between(from: { bytes: number }, to: { bytes: number }, count: number, compute: (a: bigint) => bigint): void {
    const results = Array.from({ length: count }, (_, lane) => compute(this.#get(from, this.#a, lane)));
    this.#view.setBigUint64(this.#a, 0n, true);
    this.#view.setBigUint64(this.#a + 8, 0n, true);
    for (const [lane, result] of results.entries()) this.#set(to, lane, result);
  }

  #get({ bytes }: { bytes: number }, at: number, lane: number): bigint {
    return bytes === 4
      ? BigInt(this.#view.getUint32(at + lane * 4, true))
      : this.#view.getBigUint64(at + lane * 8, true);
  }

  #set({ bytes }: { bytes: number }, lane: number, value: bigint): void {
    if (bytes === 4) this.#view.setUint32(this.#a + lane * 4, Number(BigInt.asUintN(32, value)), true);
    else this.#view.setBigUint64(this.#a + lane * 8, BigInt.asUintN(64, value), true);
  }
}
