/** Moves of vectors and of parts of them: Intel SDM vol. 2. */

import { State, Vector } from "../../cpu/layout.ts";
import type { I32, I64, V128 } from "../../wasm/expr.ts";
import { c32, c64, i32, i64 } from "../../wasm/ops.ts";
import { i8x16, i16x8, i32x4, i64x2 } from "../../wasm/simd.ts";
import type { Context, IntegerSize, Meaning, Value } from "../context.ts";
import { alsoMmx, isMmx, lanes, lowHalves, move, raisePendingX87, unary, zeros } from "./vectors.ts";

const aligned = move();
const unaligned = move("unaligned");
/** Loads that clear the rest of the register. */
const loadAlone: Meaning = (c) => c.writeWhole(0, c.readVector(1));

/** A vector with a general register's or memory's integer in its lowest lane. */
export function fromInteger(size: IntegerSize, value: Value): V128 {
  return size === 8 ? i64x2.replace_lane(zeros(), 0, value as I64) : i32x4.replace_lane(zeros(), 0, value as I32);
}

/** MOVHPS and MOVHPD: the upper half of a register from or to memory. */
const moveHigh: Meaning = (c) => {
  const source = c.let(c.readVector(1));
  c.writeVector(
    0,
    c.operands[0]!.kind === "mem" ? lanes(8, source, source, [1, 1]) : lowHalves(c.readVector(0), source),
  );
};

/** MOVD and MOVQ between vectors and general registers or memory. */
const moveInteger: Meaning = (c) => {
  if (isVector(c, 0)) {
    c.writeVector(0, fromInteger(c.operands[1]!.size as IntegerSize, c.read(1)));
  } else {
    const source = c.readVector(1);
    c.write(0, c.operands[0]!.size === 8 ? i64x2.extract_lane(source, 0) : i32x4.extract_lane(source, 0));
  }
};

const isVector = (c: Context, index: number) => c.operands[index]!.kind === "xmm" || c.operands[index]!.kind === "mm";

/** MOVMSKPS and PMOVMSKB: the top bits of lanes to a general register, whose rest becomes 0. */
function mask(bits: (a: V128) => I32): Meaning {
  return (c) => {
    const value = bits(c.readVector(1));
    c.write(0, c.operands[0]!.size === 8 ? i64.extend_i32_u(value) : value);
  };
}

/** PINSRx: the lowest bits of operand 1 to a lane. `lanes` is their count in 16 bytes. */
function insert(count: (c: Context) => number, replace: (a: V128, lane: number, value: Value) => V128): Meaning {
  return (c) => {
    const value = c.let(c.read(1));
    c.writeVector(0, replace(c.readVector(0), laneOf(c, count(c)), value));
  };
}

/** PEXTRx: a lane to memory or to a general register, whose rest becomes 0. */
function extract(count: (c: Context) => number, lane: (a: V128, lane: number) => Value): Meaning {
  return (c) => c.write(0, lane(c.readVector(1), laneOf(c, count(c))));
}

/** The immediate's bits that name one of so many lanes; an mm register has half of them. */
const laneOf = (c: Context, count: number) => c.immediate(2) & ((isMmx(c) ? count / 2 : count) - 1);

/** MASKMOVQ and MASKMOVDQU: bytes whose mask has its top bit set to memory at rDI. */
const maskedStore: Meaning = (c) => {
  const { code } = c;
  const size = c.operands[0]!.size;
  const value = c.let(c.readVector(1));
  const selected = c.let(i32.and(i8x16.bitmask(c.readVector(2)), c32(2 ** size - 1)));
  const first = c.linearAddress(0, "write");
  // A mask of zeros touches nothing.
  code.if(selected, () => {
    // Both ends are tried before anything is written.
    const from = c.let(i32.ctz(selected));
    const bytes = c.let(i32.sub(c32(32), i32.add(i32.clz(selected), from)));
    const address = code.let(i64.add(first, i64.extend_i32_u(from)));
    c.tryStore(address, bytes);
    code.set(address, first);
    const left = code.let(selected);
    const rest = code.let(value);
    code.loop((again) => {
      code.if(i32.and(left, c32(1)), () => c.store(1, address, i8x16.extract_lane_u(rest, 0)));
      code.set(rest, i8x16.shuffle(rest, rest, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0]));
      code.set(address, i64.add(address, c64(1)));
      code.set(left, i32.shr_u(left, c32(1)));
      code.brIf(again, left);
    });
  });
};

/** CLFLUSH and its kin fault as loads do, and there is no cache to write back. */
const touch: Meaning = (c) => {
  c.let(c.load(1, c.linear("operand", c.effectiveAddress(0), 1, "read")));
};

/** Bits of MXCSR that may be set. */
const MXCSR_MASK = 0xffff;

export const moves: Record<string, Meaning> = {
  ...{ movaps: aligned, movapd: aligned, movdqa: aligned },
  ...{ movups: unaligned, movupd: unaligned, movdqu: unaligned, lddqu: unaligned },
  // Non-temporal moves are moves: nothing here has caches of its own.
  ...{ movntps: aligned, movntpd: aligned, movntdq: aligned, movntdqa: aligned },
  ...{ movss: aligned, movsd: aligned, "movss.load": loadAlone, "movsd.load": loadAlone },
  ...{ movlps: aligned, movlpd: aligned, movhps: moveHigh, movhpd: moveHigh },
  movhlps: (c) => c.writeVector(0, lanes(8, c.readVector(0), c.readVector(1), [3, 1])),
  movlhps: (c) => c.writeVector(0, lowHalves(c.readVector(0), c.readVector(1))),
  movsldup: unary((a) => lanes(4, a, a, [0, 0, 2, 2])),
  movshdup: unary((a) => lanes(4, a, a, [1, 1, 3, 3])),
  movddup: unary((a) => lowHalves(a, a)),

  ...alsoMmx({
    movd: moveInteger,
    ...{ movq: aligned, movq2dq: aligned, movdq2q: aligned, movntq: aligned },
    ...{ maskmovq: maskedStore, maskmovdqu: maskedStore },
    pmovmskb: mask(i8x16.bitmask),
    pinsrw: insert(
      () => 8,
      (a, lane, value) => i16x8.replace_lane(a, lane, value as I32),
    ),
    pextrw: extract(() => 8, i16x8.extract_lane_u),
  }),
  movmskps: mask(i32x4.bitmask),
  movmskpd: mask(i64x2.bitmask),
  pinsrb: insert(
    () => 16,
    (a, lane, value) => i8x16.replace_lane(a, lane, value as I32),
  ),
  pinsrd: insert(
    (c) => 16 / c.operands[1]!.size,
    (a, lane, value) =>
      value.type === "i64" ? i64x2.replace_lane(a, lane, value as I64) : i32x4.replace_lane(a, lane, value as I32),
  ),
  pextrb: extract(() => 16, i8x16.extract_lane_u),
  pextrd: (c) => {
    const wide = c.operands[0]!.size === 8;
    const a = c.readVector(1);
    c.write(0, wide ? i64x2.extract_lane(a, laneOf(c, 2)) : i32x4.extract_lane(a, laneOf(c, 4)));
  },
  extractps: extract(() => 4, i32x4.extract_lane),

  movnti: (c) => c.write(0, c.read(1)),
  ldmxcsr: (c) => {
    const value = c.let(c.read(0) as I32);
    c.raiseIf(i32.and(value, c32(~MXCSR_MASK)), Vector.GP);
    c.setState32(State.mxcsr, value);
  },
  stmxcsr: (c) => c.write(0, c.state32(State.mxcsr)),

  // What orders stores among themselves and loads among themselves is so on this side, too; MFENCE also orders both.
  ...{ lfence: () => {}, sfence: () => {}, mfence: (c) => c.code.fence() },
  ...{ clflush: touch, clflushopt: touch, clwb: touch },
  emms: (c) => {
    raisePendingX87(c);
    c.setState32(State.ftop, c32(0));
    c.setState32(State.ftw, c32(0));
  },
};
