/** PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM: Intel SDM vol. 2, 4.1. */

/** The operands' lengths are found in them: they end at a zero. */
export const IMPLICIT = 0xff;

/** What an immediate says. */
interface Control {
  readonly wide: boolean;
  readonly signed: boolean;
  /** 0 any of a set, 1 ranges, 2 each with its own, 3 a substring. */
  readonly aggregation: number;
  readonly negative: boolean;
  /** Only elements within the second operand's length are negated. */
  readonly masked: boolean;
  /** Of an index the highest, of a mask whole elements. */
  readonly other: boolean;
}

export interface StringResult {
  /** Bits by elements of the second operand. */
  readonly matches: number;
  readonly count: number;
  /** CF, ZF, SF and OF in their places. */
  readonly flags: number;
}

const control = (immediate: number): Control => ({
  wide: (immediate & 1) !== 0,
  signed: (immediate & 2) !== 0,
  aggregation: (immediate >> 2) & 3,
  negative: (immediate & 0x10) !== 0,
  masked: (immediate & 0x20) !== 0,
  other: (immediate & 0x40) !== 0,
});

/** Compares the vectors at `a` and `b`. Lengths are in elements, or {@link IMPLICIT}. */
export function compareStrings(
  view: DataView,
  a: number,
  b: number,
  immediate: number,
  lengths: { a: number; b: number },
): StringResult {
  const how = control(immediate);
  const set = elements(view, a, how, lengths.a);
  const text = elements(view, b, how, lengths.b);
  const count = how.wide ? 8 : 16;
  let matches = 0;
  for (let index = 0; index < count; index++) if (matchesAt(how, set, text, index, count)) matches |= 1 << index;
  if (how.negative) matches ^= how.masked ? (1 << text.length) - 1 : (1 << count) - 1;
  const flags =
    (matches !== 0 ? 0x001 : 0) |
    (text.length < count ? 0x040 : 0) |
    (set.length < count ? 0x080 : 0) |
    (matches & 1 ? 0x800 : 0);
  return { matches, count, flags };
}

/** The elements within a vector's length. */
function elements(view: DataView, at: number, { wide, signed }: Control, length: number): number[] {
  const found: number[] = [];
  const count = Math.min(wide ? 8 : 16, length);
  for (let index = 0; index < count; index++) {
    const place = at + (wide ? index * 2 : index);
    const value = wide ? view.getUint16(place, true) : view.getUint8(place);
    if (length === IMPLICIT && value === 0) break;
    found.push(!signed ? value : wide ? view.getInt16(place, true) : view.getInt8(place));
  }
  return found;
}

/** What lies behind an operand's end matches by rules of its own (SDM, table 4-7). */
function matchesAt(how: Control, set: readonly number[], text: readonly number[], index: number, count: number) {
  const element = text[index];
  switch (how.aggregation) {
    case 0:
      return element !== undefined && set.includes(element);
    case 1:
      return (
        element !== undefined &&
        set.some((low, at) => at % 2 === 0 && at + 1 < set.length && element >= low && element <= set[at + 1]!)
      );
    case 2:
      return element === set[index];
    default: {
      // Of what begins near the end, only what is within the register is looked at.
      for (let at = 0; at < set.length && index + at < count; at++) if (text[index + at] !== set[at]) return false;
      return true;
    }
  }
}

/** The first or last match, or the count of elements. */
export function matchIndex({ matches, count }: StringResult, immediate: number): number {
  if (matches === 0) return count;
  return control(immediate).other ? 31 - Math.clz32(matches) : 31 - Math.clz32(matches & -matches);
}

/** The mask at `to`: a bit for each element, or all bits of it. */
export function writeMatchMask(view: DataView, to: number, { matches, count }: StringResult, immediate: number): void {
  view.setBigUint64(to, 0n, true);
  view.setBigUint64(to + 8, 0n, true);
  if (!control(immediate).other) {
    view.setUint16(to, matches, true);
    return;
  }
  for (let index = 0; index < count; index++) {
    if (((matches >> index) & 1) === 0) continue;
    if (count === 8) view.setUint16(to + index * 2, 0xffff, true);
    else view.setUint8(to + index, 0xff);
  }
}
