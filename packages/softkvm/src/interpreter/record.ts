/**
 * The interpreter's records: one decoded instruction each, in linear memory, those of a block in a row. A record begins
 * with the number of its handler; handlers read the rest, and go on to the next record by a tail call.
 */

export const Record = {
  /** Slot of the handler in the table. */
  handler: 0,
  /** From the block's start to the end of this instruction, in bytes. */
  next: 4,
  /** Addresses of the registers that are operands 0 to 3; no instruction has both the last of them and an immediate. */
  register: [8, 12, 16, 48],
  /** Address of the base register of the memory operand, or of `State.zero`. */
  base: 20,
  /** Of the index register; of a gather, of the vector of indexes. */
  index: 24,
  /** The index's shift. */
  scale: 28,
  /** Address of the base of the memory operand's segment. */
  segment: 32,
  /** From the block's start to this instruction. */
  start: 36,
  /** Displacement, 64 bits. */
  displacement: 40,
  /** Immediate, 64 bits; of a relative branch, the distance from the block's start to the target. */
  immediate: 48,
  /** Records where a taken branch and the fall-through go on, or 0 when that has to be looked up. */
  taken: 56,
  fallThrough: 60,
  size: 64,
} as const;

/** In front of a block's first record, from its address on: what compiled code knows of the block. */
export const BlockHeader = {
  /** Bytes between two blocks' records, of which the last ones are used. */
  size: 64,
  /** How often the interpreter runs the block until it tells so: see `Slot.COUNT`. */
  runs: -20,
  /** The handler of the first record, also while a region stands in for it. */
  handler: -16,
  /** Where the record's handler is a region: which of its entries this is, and right behind, how far from its base address. */
  entry: -12,
  distance: -8,
  /** How often other regions go here until they are told to take the block in. */
  patience: -4,
} as const;

/** Why the interpreter came back. */
export const Return = {
  /** Go on at `State.blockRip`, wherever that is. */
  LOOKUP: 0,
  /** The instruction of `State.record` was abandoned: a fault or an exit is recorded. */
  UNWIND: 1,
  /** The instruction of `State.record` is done in TypeScript. */
  MICROCODE: 2,
  /** Go on at the instruction of `State.record`, whose block is no more. */
  RESYNC: 3,
  /** The budget is used up: look around, then go on at `State.blockRip`. */
  BUDGET: 4,
  /** The same in the middle of a repeated instruction, that of `State.record`. */
  BUDGET_REPEAT: 5,
  /** A region (`State.region`) goes to `State.blockRip` so often that it might contain it. */
  OFTEN: 6,
  /** The interpreter has run the block at `State.blockRip`, whose first record is in `State.record`, often. */
  WARM: 7,
} as const;
export type Return = (typeof Return)[keyof typeof Return];
