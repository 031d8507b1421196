/**
 * LZMA2: chunks of LZMA and of plain bytes (the .xz specification 5.3.1 names it; the coding is described with the LZMA
 * SDK's lzma-specification.txt). The whole output is the dictionary.
 */

const Control = { END: 0, PLAIN_RESET: 1, PLAIN: 2, LZMA: 0x80 } as const;

/** Probabilities are of 11 bits, and begin in the middle. */
const PROBABILITY_INIT = 1024;
const MOVE_BITS = 5;
const TOP = 2 ** 24;

/** The states of the coder: which kinds of symbols came before. */
const STATES = 12;
const LITERAL_STATES = 7;
const POSITION_STATES = 16;
const LENGTH_STATES = 4;
const LENGTH_LOW = 8;
const LENGTH_HIGH = 256;
const SLOT_BITS = 6;
const ALIGN_BITS = 4;
const FULL_DISTANCES = 128;
const FIRST_DIRECT_SLOT = 14;
const MIN_MATCH = 2;
const LITERAL_SIZE = 0x300;

/** Where each kind of probability lies in one array. */
const At = (() => {
  let next = 0;
  const take = (count: number) => {
    const at = next;
    next += count;
    return at;
  };
  const length = 2 + 2 * POSITION_STATES * LENGTH_LOW + LENGTH_HIGH;
  return {
    isMatch: take(STATES * POSITION_STATES),
    isRepeat: take(STATES),
    isRepeat0: take(STATES),
    isRepeat1: take(STATES),
    isRepeat2: take(STATES),
    isRepeat0Long: take(STATES * POSITION_STATES),
    slot: take(LENGTH_STATES << SLOT_BITS),
    distance: take(FULL_DISTANCES),
    align: take(1 << ALIGN_BITS),
    matchLength: take(length),
    repeatLength: take(length),
    literal: next,
  };
})();
const LENGTH_CHOICE = 0;
const LENGTH_CHOICE_2 = 1;
const LENGTH_LOW_AT = 2;
const LENGTH_MIDDLE_AT = LENGTH_LOW_AT + POSITION_STATES * LENGTH_LOW;
const LENGTH_HIGH_AT = LENGTH_MIDDLE_AT + POSITION_STATES * LENGTH_LOW;

/** lc + lp is at most 4 in LZMA2. */
const MAX_LITERAL_BITS = 4;

export class Lzma2Decoder {
  readonly #in: Uint8Array;
  readonly #limit: number;
  #out = new Uint8Array(2 ** 20);
  #length = 0;
  /** The range coder, and where it reads. */
  #at = 0;
  #range = 0;
  #code = 0;
  readonly #probabilities = new Uint16Array(At.literal + (LITERAL_SIZE << MAX_LITERAL_BITS));
  #state = 0;
  #repeats = [0, 0, 0, 0];
  #literalContext = 0;
  #literalPosition = 0;
  #positionMask = 0;
  /** Where the dictionary begins. */
  #dictionary = 0;

  constructor(packed: Uint8Array, limit: number) {
    this.#in = packed;
    this.#limit = limit;
  }

  get length(): number {
    return this.#length;
  }
  output(): Uint8Array {
    return this.#out.subarray(0, this.#length);
  }
  /** What was unpacked from a position on; it holds until more is. */
  from(start: number): Uint8Array {
    return this.#out.subarray(start, this.#length);
  }

  /** Unpacks the chunks from a position of the input on; returns where they end. */
  decode(start: number): number {
    let at = start;
    // An x86 filter's changes must not be seen by copies: each block has its own dictionary.
    this.#dictionary = this.#length;
    for (;;) {
      const control = this.#byte(at++);
      if (control === Control.END) return at;
      if (control < Control.LZMA) {
        if (control > Control.PLAIN) throw damaged("an unknown chunk");
        const size = this.#word(at) + 1;
        at += 2;
        if (control === Control.PLAIN_RESET) this.#dictionary = this.#length;
        this.#room(size);
        if (at + size > this.#in.length) throw damaged("cut off in a chunk");
        this.#out.set(this.#in.subarray(at, at + size), this.#length);
        this.#length += size;
        at += size;
        continue;
      }
      const size = ((control & 0x1f) << 16) + this.#word(at) + 1;
      const packedSize = this.#word(at + 2) + 1;
      at += 4;
      const reset = (control >> 5) & 3;
      if (reset === 3) this.#dictionary = this.#length;
      if (reset >= 2) this.#setProperties(this.#byte(at++));
      if (reset >= 1) this.#reset();
      this.#room(size);
      if (at + packedSize > this.#in.length) throw damaged("cut off in a chunk");
      this.#startRange(at);
      this.#decodeChunk(this.#length + size);
      at += packedSize;
      if (this.#at > at) throw damaged("a chunk reaches into the next");
    }
  }

  #byte(at: number): number {
    const byte = this.#in[at];
    if (byte === undefined) throw damaged("cut off");
    return byte;
  }
  #word(at: number): number {
    return this.#byte(at) * 256 + this.#byte(at + 1);
  }

  #room(bytes: number): void {
    const needed = this.#length + bytes;
    if (needed > this.#limit) throw damaged(`more than ${this.#limit} bytes`);
    if (needed <= this.#out.length) return;
    const larger = new Uint8Array(Math.min(this.#limit, Math.max(needed, this.#out.length * 2)));
    larger.set(this.#out);
    this.#out = larger;
  }

  #setProperties(byte: number): void {
    if (byte >= 9 * 5 * 5) throw damaged("properties out of range");
    this.#literalContext = byte % 9;
    this.#literalPosition = Math.floor(byte / 9) % 5;
    this.#positionMask = (1 << Math.floor(byte / 45)) - 1;
    if (this.#literalContext + this.#literalPosition > MAX_LITERAL_BITS) throw damaged("properties out of range");
  }

  #reset(): void {
    this.#probabilities.fill(PROBABILITY_INIT);
    this.#state = 0;
    this.#repeats = [0, 0, 0, 0];
  }

  #startRange(at: number): void {
    this.#range = 0xffffffff;
    this.#code = (this.#word(at + 1) * 65536 + this.#word(at + 3)) >>> 0;
    this.#at = at + 5;
  }

  #normalize(): void {
    if (this.#range >= TOP) return;
    this.#range = (this.#range << 8) >>> 0;
    // Behind the input's end there are zeros: whoever reads so far is stopped at the chunk's end.
    this.#code = ((this.#code << 8) | (this.#in[this.#at++] ?? 0)) >>> 0;
  }

  #bit(index: number): 0 | 1 {
    this.#normalize();
    const probability = this.#probabilities[index]!;
    const bound = (this.#range >>> 11) * probability;
    if (this.#code < bound) {
      this.#range = bound;
      this.#probabilities[index] = probability + ((2048 - probability) >> MOVE_BITS);
      return 0;
    }
    this.#range -= bound;
    this.#code -= bound;
    this.#probabilities[index] = probability - (probability >> MOVE_BITS);
    return 1;
  }

  #tree(base: number, bits: number): number {
    let symbol = 1;
    for (let index = 0; index < bits; index++) symbol = (symbol << 1) | this.#bit(base + symbol);
    return symbol - (1 << bits);
  }

  #reverseTree(base: number, bits: number): number {
    let symbol = 1;
    let value = 0;
    for (let index = 0; index < bits; index++) {
      const bit = this.#bit(base + symbol);
      symbol = (symbol << 1) | bit;
      value |= bit << index;
    }
    return value;
  }

  #direct(bits: number): number {
    let value = 0;
    for (let index = 0; index < bits; index++) {
      this.#normalize();
      this.#range = this.#range >>> 1;
      const bit = this.#code >= this.#range ? 1 : 0;
      if (bit) this.#code -= this.#range;
      value = value * 2 + bit;
    }
    return value;
  }

  #decodeChunk(end: number): void {
    const repeats = this.#repeats;
    while (this.#length < end) {
      const positionState = (this.#length - this.#dictionary) & this.#positionMask;
      if (this.#bit(At.isMatch + this.#state * POSITION_STATES + positionState) === 0) {
        this.#literal();
        continue;
      }
      let length: number;
      if (this.#bit(At.isRepeat + this.#state) === 0) {
        length = this.#matchLength(At.matchLength, positionState);
        repeats.unshift(this.#distance(length));
        repeats.length = 4;
        this.#state = this.#state < LITERAL_STATES ? 7 : 10;
      } else {
        if (this.#bit(At.isRepeat0 + this.#state) === 0) {
          if (this.#bit(At.isRepeat0Long + this.#state * POSITION_STATES + positionState) === 0) {
            this.#state = this.#state < LITERAL_STATES ? 9 : 11;
            this.#copy(repeats[0]!, 1, end);
            continue;
          }
        } else {
          const which = this.#bit(At.isRepeat1 + this.#state) === 0 ? 1 : this.#bit(At.isRepeat2 + this.#state) + 2;
          repeats.unshift(...repeats.splice(which, 1));
        }
        length = this.#matchLength(At.repeatLength, positionState);
        this.#state = this.#state < LITERAL_STATES ? 8 : 11;
      }
      this.#copy(repeats[0]!, length, end);
    }
    this.#normalize();
  }

  #literal(): void {
    const position = this.#length - this.#dictionary;
    const previous = position === 0 ? 0 : this.#out[this.#length - 1]!;
    const context = this.#literalContext;
    const low = position & ((1 << this.#literalPosition) - 1);
    const base = At.literal + LITERAL_SIZE * ((low << context) + (previous >> (8 - context)));
    let symbol = 1;
    if (this.#state >= LITERAL_STATES) {
      // After a match the byte that it would have gone on with guides the first bits.
      let match = this.#back(this.#repeats[0]!);
      do {
        const expected = (match >> 7) & 1;
        match <<= 1;
        const bit = this.#bit(base + ((1 + expected) << 8) + symbol);
        symbol = (symbol << 1) | bit;
        if (bit !== expected) break;
      } while (symbol < 0x100);
    }
    while (symbol < 0x100) symbol = (symbol << 1) | this.#bit(base + symbol);
    this.#out[this.#length++] = symbol;
    this.#state = this.#state < 4 ? 0 : this.#state < 10 ? this.#state - 3 : this.#state - 6;
  }

  #matchLength(base: number, positionState: number): number {
    if (this.#bit(base + LENGTH_CHOICE) === 0) {
      return MIN_MATCH + this.#tree(base + LENGTH_LOW_AT + positionState * LENGTH_LOW, 3);
    }
    if (this.#bit(base + LENGTH_CHOICE_2) === 0) {
      return MIN_MATCH + LENGTH_LOW + this.#tree(base + LENGTH_MIDDLE_AT + positionState * LENGTH_LOW, 3);
    }
    return MIN_MATCH + 2 * LENGTH_LOW + this.#tree(base + LENGTH_HIGH_AT, 8);
  }

  /** How far back a match lies; 0 is the byte before. */
  #distance(length: number): number {
    const lengthState = Math.min(length - MIN_MATCH, LENGTH_STATES - 1);
    const slot = this.#tree(At.slot + (lengthState << SLOT_BITS), SLOT_BITS);
    if (slot < 4) return slot;
    const bits = (slot >> 1) - 1;
    const base = (2 | (slot & 1)) * 2 ** bits;
    if (slot < FIRST_DIRECT_SLOT) return base + this.#reverseTree(At.distance + base - slot, bits);
    return base + this.#direct(bits - ALIGN_BITS) * 2 ** ALIGN_BITS + this.#reverseTree(At.align, ALIGN_BITS);
  }

  #back(distance: number): number {
    if (distance >= this.#length - this.#dictionary) throw damaged("a copy from before the beginning");
    return this.#out[this.#length - 1 - distance]!;
  }

  #copy(distance: number, length: number, end: number): void {
    if (distance >= this.#length - this.#dictionary) throw damaged("a copy from before the beginning");
    if (this.#length + length > end) throw damaged("a copy over a chunk's end");
    const out = this.#out;
    let to = this.#length;
    for (let from = to - 1 - distance; from < this.#length - 1 - distance + length; from++) out[to++] = out[from]!;
    this.#length = to;
  }
}

function damaged(how: string): RangeError {
  return new RangeError(`LZMA2: ${how}`);
}
