/** A function's body as it is written: statements in order, with structured control flow. */

import { Bytes } from "./bytes.ts";
import { ConstI32, type Expr, type I32, Local, typeCode, type ValueType, writeOpcode } from "./expr.ts";

/** A block or loop that branches can name. */
export class Label {
  readonly depth: number;
  constructor(depth: number) {
    this.depth = depth;
  }
}

/** Of a branch at an offset: whether its condition mostly holds. */
export interface Hint {
  readonly offset: number;
  readonly likely: boolean;
}

export class Code {
  #out = new Bytes();
  readonly #locals: ValueType[] = [];
  readonly #free: Record<ValueType, number[]> = { i32: [], i64: [], f32: [], f64: [], v128: [] };
  /** Locals in use, in the order in which they were taken. */
  readonly #given: Local[] = [];
  readonly parameters: readonly Local[];
  /** Where in the code there are branches of which is known how they mostly go. */
  #hints: Hint[] = [];
  #depth = 0;

  constructor(parameters: readonly ValueType[]) {
    this.parameters = parameters.map((type, index) => new Local(type, index));
  }

  /** A local variable. It begins as whatever its last use left, or 0. */
  local<T extends ValueType>(type: T): Local<T> {
    const reused = this.#free[type].pop();
    const index = reused ?? this.parameters.length + this.#locals.push(type) - 1;
    const local = new Local(type, index);
    this.#given.push(local);
    return local;
  }

  /** How deep in blocks, loops and ifs the next instruction lies. */
  get depth(): number {
    return this.#depth;
  }

  /** Where {@link releaseSince} may go back to. */
  get mark(): number {
    return this.#given.length;
  }

  /** Gives back the locals that were taken since a mark, but for one if that is among them. */
  releaseSince(mark: number, kept?: Expr): void {
    for (const local of this.#given.splice(mark)) {
      if (local === kept) this.#given.push(local);
      else this.#free[local.type].push(local.index);
    }
  }

  /** Writes code in front of all that is written so far. */
  before(write: () => void): void {
    const rest = this.#out;
    const hints = this.#hints;
    this.#out = new Bytes();
    this.#hints = [];
    write();
    const inFront = this.#out.length;
    this.#hints.push(...hints.map(({ offset, likely }) => ({ offset: offset + inFront, likely })));
    this.#out.append(rest.view());
  }

  /**
   * Gives a local's slot back; nothing may use it any more. {@link releaseSince} then does not give it back a second time,
   * which would let two locals share it.
   */
  release(local: Local): void {
    const place = this.#given.lastIndexOf(local);
    if (place < 0) return;
    this.#given.splice(place, 1);
    this.#free[local.type].push(local.index);
  }

  /** Computes an expression now, once; constants and locals that never change need no local. */
  let<T extends ValueType>(value: Expr<T>): Local<T> {
    const local = this.local(value.type);
    this.set(local, value);
    return local;
  }

  set<T extends ValueType>(local: Local<T>, value: Expr<T>): void {
    value.write(this.#out);
    this.#out.byte(0x21);
    this.#out.u32(local.index);
  }

  /** Stores to linear memory. */
  store(kind: StoreKind, address: I32, offset: number, value: Expr): void {
    const { opcode, align } = stores[kind];
    const constant = address instanceof ConstI32;
    (constant ? new ConstI32(0) : address).write(this.#out);
    value.write(this.#out);
    writeOpcode(this.#out, opcode);
    this.#out.u32(align);
    this.#out.u32(constant ? (address.value >>> 0) + offset : offset);
  }

  /** Sets so many bytes to one value: memory.fill. */
  fill(address: I32, value: I32, bytes: I32): void {
    for (const operand of [address, value, bytes]) operand.write(this.#out);
    this.#out.byte(0xfc);
    this.#out.u32(11);
    this.#out.byte(0);
  }

  /** Copies so many bytes, which may overlap: memory.copy. */
  copy(to: I32, from: I32, bytes: I32): void {
    for (const operand of [to, from, bytes]) operand.write(this.#out);
    this.#out.byte(0xfc);
    this.#out.u32(10);
    this.#out.byte(0);
    this.#out.byte(0);
  }

  /** Stores lane 0 of a vector: so many bytes. */
  storeLane(size: 1 | 2 | 4 | 8, address: I32, value: Expr<"v128">): void {
    const constant = address instanceof ConstI32;
    (constant ? new ConstI32(0) : address).write(this.#out);
    value.write(this.#out);
    const log2 = Math.log2(size);
    writeOpcode(this.#out, 0xfd0058 + log2);
    this.#out.u32(log2);
    this.#out.u32(constant ? address.value >>> 0 : 0);
    this.#out.byte(0);
  }

  /** Computes an expression for its effect. */
  drop(value: Expr): void {
    value.write(this.#out);
    this.#out.byte(0x1a);
  }

  /** Calls a function that returns nothing. */
  call(index: number, ...operands: Expr[]): void {
    for (const operand of operands) operand.write(this.#out);
    this.#out.byte(0x10);
    this.#out.u32(index);
  }

  /**
   * Runs one side or the other; what a constant condition rules out is not written. `mostly` says which side is the usual
   * one: an engine that listens keeps the other one's needs out of it.
   */
  if(condition: I32, then: () => void, otherwise?: () => void, mostly?: boolean): void {
    if (condition instanceof ConstI32) {
      if (condition.value !== 0) then();
      else otherwise?.();
      return;
    }
    condition.write(this.#out);
    if (mostly !== undefined) this.#hints.push({ offset: this.#out.length, likely: mostly });
    this.#open(0x04);
    then();
    if (otherwise !== undefined) {
      this.#out.byte(0x05);
      otherwise();
    }
    this.#close();
  }

  /** A block that {@link br} leaves at its end. */
  block(body: (label: Label) => void): void {
    this.#open(0x02);
    body(new Label(this.#depth));
    this.#close();
  }

  /** A loop that {@link br} begins anew; without one it runs once. */
  loop(body: (label: Label) => void): void {
    this.#open(0x03);
    body(new Label(this.#depth));
    this.#close();
  }

  br(label: Label): void {
    this.#out.byte(0x0c);
    this.#out.u32(this.#depth - label.depth);
  }

  brIf(label: Label, condition: I32, mostly?: boolean): void {
    if (condition instanceof ConstI32) {
      if (condition.value !== 0) this.br(label);
      return;
    }
    condition.write(this.#out);
    if (mostly !== undefined) this.#hints.push({ offset: this.#out.length, likely: mostly });
    this.#out.byte(0x0d);
    this.#out.u32(this.#depth - label.depth);
  }

  /** Branches to `labels[index]`, or to `otherwise` when there is none. */
  brTable(labels: readonly Label[], otherwise: Label, index: I32): void {
    index.write(this.#out);
    this.#out.byte(0x0e);
    this.#out.u32(labels.length);
    for (const label of labels) this.#out.u32(this.#depth - label.depth);
    this.#out.u32(this.#depth - otherwise.depth);
  }

  return(...values: Expr[]): void {
    for (const value of values) value.write(this.#out);
    this.#out.byte(0x0f);
  }

  /** Leaves this function for the one at `index` of table 0: the stack does not grow. */
  tailCallIndirect(type: number, index: I32, ...operands: Expr[]): void {
    for (const operand of operands) operand.write(this.#out);
    index.write(this.#out);
    this.#out.byte(0x13);
    this.#out.u32(type);
    this.#out.u32(0);
  }

  tailCall(index: number, ...operands: Expr[]): void {
    for (const operand of operands) operand.write(this.#out);
    this.#out.byte(0x12);
    this.#out.u32(index);
  }

  /** Orders all accesses to memory before it before all after it. */
  fence(): void {
    this.#out.byte(0xfe);
    this.#out.byte(0x03);
    this.#out.byte(0x00);
  }

  unreachable(): void {
    this.#out.byte(0x00);
  }

  /** The body with its declarations, as the code section holds it, and the hints on it, by offsets from its start. */
  encode(): { body: Uint8Array; hints: readonly Hint[] } {
    const body = new Bytes();
    const runs: { type: ValueType; count: number }[] = [];
    for (const type of this.#locals) {
      const last = runs.at(-1);
      if (last?.type === type) last.count += 1;
      else runs.push({ type, count: 1 });
    }
    body.u32(runs.length);
    for (const { type, count } of runs) {
      body.u32(count);
      body.byte(typeCode[type]);
    }
    const declarations = body.length;
    body.append(this.#out.view());
    body.byte(0x0b);
    const hints = this.#hints.map(({ offset, likely }) => ({ offset: offset + declarations, likely }));
    return { body: body.view(), hints };
  }

  #open(opcode: number): void {
    this.#out.byte(opcode);
    this.#out.byte(0x40);
    this.#depth += 1;
  }

  #close(): void {
    this.#out.byte(0x0b);
    this.#depth -= 1;
  }
}

const stores = {
  i32: { opcode: 0x36, align: 2 },
  i64: { opcode: 0x37, align: 3 },
  f32: { opcode: 0x38, align: 2 },
  f64: { opcode: 0x39, align: 3 },
  i32_8: { opcode: 0x3a, align: 0 },
  i32_16: { opcode: 0x3b, align: 1 },
  i64_8: { opcode: 0x3c, align: 0 },
  i64_16: { opcode: 0x3d, align: 1 },
  i64_32: { opcode: 0x3e, align: 2 },
  v128: { opcode: 0xfd0b, align: 4 },
} as const;
export type StoreKind = keyof typeof stores;
