/**
 * VEX forms of SSE instructions (Intel SDM vol. 2, 2.3 and 14.1 of vol. 1): the same operation, with a destination of its
 * own in front of the operands, once or for 256 bits twice, and with zeros in the destination above. Memory need not be
 * aligned.
 *
 * The meaning of the SSE instruction is given another view of the context, in which its operands are where it expects
 * them: those of one half. What it writes is collected, and written when nothing can fault any more.
 */

import { UnitOperation } from "../../vector-unit/operations.ts";
import type { F32, F64, V128 } from "../../wasm/expr.ts";
import { c32 } from "../../wasm/ops.ts";
import { f32x4, f64x2, i8x16 } from "../../wasm/simd.ts";
import type { Context, Meaning, OperandShape, VectorSize, Wide } from "../context.ts";
import { bytes, lanes, lowHalves, zeros } from "../sse/vectors.ts";

export interface VexForm {
  /** The destination comes in front of the SSE instruction's operands, the first of which is read only. */
  readonly separate?: boolean;
  /** Bytes of the destination that the operation is about; above are those of the first operand that is read. */
  readonly scalar?: 4 | 8;
  /** How lanes of the source (or for "narrow" of the destination) compare: a count is the same for both halves. */
  readonly source?: "alike" | "wider" | "narrower" | "count";
  /** The immediate as the SSE instruction would have it for a half. */
  readonly immediate?: (value: number, half: number) => number;
}

/** A context like another, but for some members. */
function viewOf(c: Context, changes: Partial<Context>): Context {
  return new Proxy(c, {
    get(target, name) {
      if (name in changes) return changes[name as keyof Context];
      const value = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

/** Both halves of a vector operand; zeros above what it has. */
export function readBoth(c: Context, index: number): Wide {
  if (c.operands[index]!.size !== 32) return { low: c.let(c.readVector(index, "unaligned")), high: zeros() };
  const { low, high } = c.readWide(index);
  return { low: c.let(low), high: c.let(high) };
}

/** Writes a vector register with zeros above what the operand has. */
export function writeBoth(c: Context, index: number, { low, high }: Wide): void {
  const isWide = c.operands[index]!.size === 32;
  c.writeWide(index, { low: c.let(low), high: isWide ? c.let(high) : zeros() });
}

/** The VEX form of an SSE instruction. */
export function vex(meaning: Meaning, form: VexForm = {}): Meaning {
  return (c) => {
    const isWide = c.operands.some(({ size }) => size === 32);
    const sources = new Sources(c, form, isWide);
    const exceptions = isWide ? new HeldExceptions(c) : undefined;
    const halves = (isWide ? [0, 1] : [0]).map((half) => {
      exceptions?.beginHalf();
      return runHalf(c, meaning, form, half, sources, exceptions);
    });
    exceptions?.commit();
    const [low, high] = halves;
    if (low === undefined) return;
    if (form.source === "wider") writeNarrowed(c, high === undefined ? low : lowHalves(low, high));
    else c.writeWide(0, { low, high: high ?? zeros() });
  };
}

function writeNarrowed(c: Context, value: V128): void {
  if (c.operands[0]!.kind === "mem") c.writeVector(0, value, "unaligned");
  else c.writeWide(0, { low: value, high: zeros() });
}

/** What a meaning writes to its vector destination, computed; undefined if it has none. */
function runHalf(
  c: Context,
  meaning: Meaning,
  { separate = false, scalar, source, immediate }: VexForm,
  half: number,
  sources: Sources,
  exceptions: HeldExceptions | undefined,
): V128 | undefined {
  const shift = separate ? 1 : 0;
  /** Where the operand of an SSE instruction is. */
  const at = (index: number) => index + shift;
  let result: V128 | undefined;
  const collect = (value: V128) => {
    result = c.let(value);
  };
  const destination = c.operands[0]!;
  const operands = c.operands.slice(shift).map((shape, index): OperandShape => {
    const size = index === 0 ? (scalar ?? Math.min(destination.size, 16)) : sources.sizeOf(at(index));
    return index === 0 ? { ...destination, size } : { ...shape, size };
  });
  const isRegister = destination.kind === "xmm";
  const view: Partial<Context> = {
    operands,
    read: (index) => c.read(at(index)),
    write: (index, value) => c.write(index, value),
    readVector: (index) => sources.half(at(index), half),
    writeVector: (index, value, alignment) => {
      if (scalar !== undefined && isRegister) collect(merge(scalar, value, c.readVector(shift)));
      else if (isRegister || source === "wider") collect(value);
      else c.writeVector(index, value, alignment);
    },
    writeWhole: (_, value) => collect(value),
    readFloat: (index, size) => {
      const vector = sources.half(at(index), half);
      return size === 4 ? f32x4.extract_lane(vector, 0) : f64x2.extract_lane(vector, 0);
    },
    writeFloat: (_, size, value) => {
      const rest = c.readVector(1);
      collect(size === 4 ? f32x4.replace_lane(rest, 0, value as F32) : f64x2.replace_lane(rest, 0, value as F64));
    },
    isRegular: () => false,
    setRegular: () => {},
    setVectorRegister: (register, value) => {
      c.setVectorRegister(register, value);
      c.setUpperHalf(register, zeros());
    },
    immediate: (index) => {
      const value = c.immediate(at(index));
      return immediate === undefined ? value : immediate(value, half);
    },
  };
  if (exceptions !== undefined) view.vectorUnit = (...request) => exceptions.vectorUnit(...request);
  meaning(viewOf(c, view));
  return result;
}

/** The low bytes from one vector, the others from another. */
function merge(size: 4 | 8, low: V128, rest: V128): V128 {
  return bytes(
    low,
    rest,
    Array.from({ length: 16 }, (_, byte) => (byte < size ? byte : byte + 16)),
  );
}

/** Vector operands by halves. What is memory is loaded once. */
class Sources {
  readonly #c: Context;
  readonly #form: VexForm;
  readonly #isWide: boolean;
  readonly #loaded = new Map<number, Wide>();

  constructor(c: Context, form: VexForm, isWide: boolean) {
    this.#c = c;
    this.#form = form;
    this.#isWide = isWide;
  }

  /** Bytes of an operand that belong to a half. */
  sizeOf(index: number): number {
    const { kind, size } = this.#c.operands[index]!;
    if (kind === "gpr" || kind === "imm") return size;
    if (size === 32) return 16;
    return this.#isWide && this.#form.source === "narrower" ? size / 2 : size;
  }

  half(index: number, half: number): V128 {
    const whole = this.#whole(index);
    if (this.#c.operands[index]!.size === 32) return half === 0 ? whole.low : whole.high;
    if (!this.#isWide || this.#form.source !== "narrower") return whole.low;
    const size = this.sizeOf(index);
    const from = Array.from({ length: 16 }, (_, byte) => (byte < size ? half * size + byte : 16));
    return i8x16.shuffle(whole.low, zeros(), from);
  }

  #whole(index: number): Wide {
    const known = this.#loaded.get(index);
    if (known !== undefined) return known;
    const whole = readBoth(this.#c, index);
    this.#loaded.set(index, whole);
    return whole;
  }
}

/**
 * An exception of either half's keeps the instruction from having a result, and MXCSR tells those of both: they are held
 * back until both halves are done (SDM vol. 1, 11.5.2).
 */
class HeldExceptions {
  readonly #c: Context;
  readonly #any;
  #stage = 0;
  #used = false;

  constructor(c: Context) {
    this.#c = c;
    this.#any = c.code.let(c32(0));
  }

  beginHalf(): void {
    this.#stage = 0;
  }

  vectorUnit(...[operation, ...operands]: Parameters<Context["vectorUnit"]>): V128 {
    const held = UnitOperation.HOLD | (this.#stage++ << UnitOperation.STAGE_SHIFT);
    this.#used = true;
    this.#c.code.set(this.#any, c32(1));
    return this.#c.vectorUnit(operation | held, ...operands);
  }

  commit(): void {
    if (!this.#used) return;
    this.#c.code.if(this.#any, () => {
      this.#c.vectorUnit(UnitOperation.COMMIT, zeros(), zeros());
    });
  }
}

/** A part of a vector of so many bytes as the lowest of another, zeros above. */
export const part = (value: V128, size: VectorSize, number: number): V128 =>
  size === 8
    ? lanes(8, value, zeros(), [number, 2])
    : bytes(
        value,
        zeros(),
        Array.from({ length: 16 }, (_, byte) => (byte < size ? number * size + byte : 16)),
      );
