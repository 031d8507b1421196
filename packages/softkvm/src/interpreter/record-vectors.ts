/** The interpreter's view of an instruction: operands of SSE and AVX, and the vector unit. */

import { State, Tlb } from "../cpu/layout.ts";
import type { Alignment, FloatLanes, VectorSize, Wide } from "../semantics/context.ts";
import { type FloatGuard, guardConstants } from "../semantics/sse/checked.ts";
import { type FloatSize, inexactIsQuiet } from "../semantics/sse/lanes.ts";
import { UnitOutcome } from "../semantics/sse/unit-function.ts";
import { type VectorFunction, vectorFunctionNumber } from "../vector-unit/functions.ts";
import type { Code } from "../wasm/code.ts";
import type { F32, F64, I32, I64, Local, V128 } from "../wasm/expr.ts";
import { c32, call, callIndirect, f32, f64, i32, i64 } from "../wasm/ops.ts";
import { i32x4, splat, v128 } from "../wasm/simd.ts";
import { Record } from "./record.ts";
import { RecordMemory } from "./record-memory.ts";

export const vectorLoads: { readonly [size in VectorSize]: (address: I32) => V128 } = {
  1: (address) => i32x4.replace_lane(splat(4, 0), 0, i32.load8_u(address)),
  2: (address) => i32x4.replace_lane(splat(4, 0), 0, i32.load16_u(address)),
  4: v128.load32_zero,
  8: v128.load64_zero,
  16: v128.load,
};

export abstract class RecordVectors extends RecordMemory {
  readVector(index: number, alignment: Alignment = "aligned"): V128 {
    const { kind, size } = this.operands[index]!;
    if (kind !== "mem") return vectorLoads[Math.min(size, 16) as VectorSize](this.register(index));
    const linear = this.linearAddress(index, "read");
    if (size === 16 && alignment === "aligned") this.checkAlignment(linear);
    return this.loadVector(size as VectorSize, linear);
  }

  writeVector(index: number, value: V128, alignment: Alignment = "aligned"): void {
    const { kind, size } = this.operands[index]!;
    if (kind !== "mem") {
      storeLow(this.code, size as VectorSize, this.register(index), value);
      // What holds an mm register reads as a NaN or infinity of x87 (Intel SDM vol. 1, 9.6.2).
      if (kind === "mm") this.code.store("i32_16", this.register(index), 8, c32(0xffff));
      return;
    }
    const now = this.let(value);
    const linear = this.linearAddress(index, "write");
    if (size === 16 && alignment === "aligned") this.checkAlignment(linear);
    this.storeVector(size as VectorSize, linear, now);
  }

  readFloat(index: number, size: FloatSize): F32 | F64 {
    const of = size === 4 ? f32 : f64;
    if (this.operands[index]!.kind !== "mem") return of.load(this.register(index));
    const value = this.code.local(size === 4 ? "f32" : "f64") as Local<"f32">;
    const linear = this.linearAddress(index, "read");
    this.translated(
      size,
      linear,
      Tlb.read,
      (host) => this.code.set(value, of.load(host) as F32),
      () => {
        this.slow(this.outside.load, linear, size, 0);
        this.code.set(value, of.load(this.address(State.transfer)) as F32);
      },
    );
    this.constant.add(value);
    return value;
  }

  writeFloat(index: number, size: FloatSize, value: F32 | F64): void {
    this.code.store(size === 4 ? "f32" : "f64", this.register(index), 0, value);
  }

  floatGuard(size: FloatSize): FloatGuard {
    const { bias, mask, scalarMask } = guardConstants[size];
    const isQuiet = this.let(i32.sub(c32(0), inexactIsQuiet(this)));
    return { bias, mask: v128.and(mask, i32x4.splat(isQuiet)), scalarMask: i32.and(isQuiet, c32(scalarMask)) };
  }

  isRegular(_index: number, _lanes: FloatLanes): boolean {
    return false;
  }

  setRegular(_index: number, _lanes: FloatLanes): void {}

  writeWhole(index: number, value: V128): void {
    this.code.store("v128", this.register(index), 0, value);
  }

  readWide(index: number, alignment: Alignment = "unaligned"): Wide {
    if (this.operands[index]!.kind !== "mem") {
      const register = this.register(index);
      return { low: v128.load(register), high: v128.load(register, 16) };
    }
    const linear = this.linearAddress(index, "read");
    if (alignment === "aligned") this.checkAlignment(linear, 32);
    return this.loadWide(linear);
  }

  writeWide(index: number, { low, high }: Wide, alignment: Alignment = "unaligned"): void {
    if (this.operands[index]!.kind !== "mem") {
      this.code.store("v128", this.register(index), 0, low);
      this.code.store("v128", this.register(index), 16, high);
      return;
    }
    const now = { low: this.let(low), high: this.let(high) };
    const linear = this.linearAddress(index, "write");
    if (alignment === "aligned") this.checkAlignment(linear, 32);
    this.storeWide(linear, now);
  }

  vectorRegister(register: number): V128 {
    return v128.load(this.address(State.vector + register * 32));
  }

  setVectorRegister(register: number, value: V128): void {
    this.code.store("v128", this.address(State.vector + register * 32), 0, value);
  }

  setUpperHalf(register: number, value: V128): void {
    this.code.store("v128", this.address(State.vector + register * 32), 16, value);
  }

  loadVector(size: VectorSize, linear: Local<"i64">): V128 {
    const value = this.code.local("v128");
    this.translated(
      size,
      linear,
      Tlb.read,
      (host) => this.code.set(value, vectorLoads[size](host)),
      () => {
        this.slow(this.outside.load, linear, size, 0);
        this.code.set(value, vectorLoads[size](this.address(State.transfer)));
      },
    );
    this.constant.add(value);
    return value;
  }

  storeVector(size: VectorSize, linear: Local<"i64">, value: V128): void {
    const now = this.let(value);
    this.translated(
      size,
      linear,
      Tlb.write,
      (host) => storeLow(this.code, size, host, now),
      () => {
        this.code.store("v128", this.address(State.transfer), 0, now);
        this.slow(this.outside.store, linear, size, 0);
      },
    );
  }

  loadWide(linear: Local<"i64">): Wide {
    const low = this.code.local("v128");
    const high = this.code.local("v128");
    const load = (at: I32) => {
      this.code.set(low, v128.load(at));
      this.code.set(high, v128.load(at, 16));
    };
    this.translated(32, linear, Tlb.read, load, () => {
      this.slow(this.outside.load, linear, 32, 0);
      load(this.address(State.transfer));
    });
    this.constant.add(low);
    this.constant.add(high);
    return { low, high };
  }

  storeWide(linear: Local<"i64">, value: Wide): void {
    const low = this.let(value.low);
    const high = this.let(value.high);
    const store = (at: I32) => {
      this.code.store("v128", at, 0, low);
      this.code.store("v128", at, 16, high);
    };
    this.translated(32, linear, Tlb.write, store, () => {
      store(this.address(State.transfer));
      this.slow(this.outside.store, linear, 32, 0);
    });
  }

  indexVector(_index: number): Wide {
    const register = this.let(i32.load(this.record, Record.index));
    return { low: v128.load(register), high: v128.load(register, 16) };
  }

  indexShift(_index: number): I64 {
    return i64.extend_i32_u(i32.load(this.record, Record.scale));
  }

  vectorUnit(operation: number, a: V128, b: V128, argument: I32 = c32(0), third?: V128): V128 {
    if (third !== undefined) this.code.store("v128", this.address(State.third), 0, third);
    this.code.store("v128", this.address(State.transfer), 0, a);
    this.code.store("v128", this.address(State.transfer), 16, b);
    this.setState32(State.record, this.record);
    const outcome = this.let(call("i32", this.outside.vectorUnit, c32(operation), argument));
    this.afterUnit(outcome);
    return this.let(v128.load(this.address(State.transfer)));
  }

  vectorFunction(name: VectorFunction, a: V128, b: V128, third: V128 = splat(8, 0)): V128 {
    const { vectorFunctionType, vectorFunctions } = this.outside;
    const slot = c32(vectorFunctions + vectorFunctionNumber(name));
    return callIndirect("v128", vectorFunctionType, slot, a, b, third);
  }

  /** Goes on after a call of the vector unit, which was for that, or leaves. */
  protected afterUnit(outcome: I32): void {
    this.code.if(i32.eq(outcome, c32(UnitOutcome.FAULT)), () => this.abandon());
  }
}

/** Stores the low bytes of a vector. */
export function storeLow(code: Code, size: VectorSize, address: I32, value: V128): void {
  if (size === 16) code.store("v128", address, 0, value);
  else code.storeLane(size, address, value);
}
