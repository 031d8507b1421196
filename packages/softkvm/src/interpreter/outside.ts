/** Functions outside the handler, by their indexes in its module. */
export interface Outside {
  /**
   * (linear address, size, `AccessKind`) → 0 with the value in `State.transfer`, else a fault or an exit. To TypeScript the
   * address goes on as a float, because JavaScript would get a bigint for an i64, at ten times the cost.
   */
  readonly load: number;
  /** The same; the value is in `State.transfer`. */
  readonly store: number;
  /** A handler that goes on from an instruction with whose record a fault or an exit is recorded. */
  readonly abandoned: number;
  /** (segment, is write): raises the fault of an offset beyond the segment. */
  readonly segmentFault: number;
  /**
   * (operation, argument) → whether it faulted; operands are the two halves of `State.transfer`, the result is its first:
   * `VectorUnit.run`.
   */
  readonly vectorUnit: number;
  /** The type of `VectorFunction`s, and the slot of the first. */
  readonly vectorFunctionType: number;
  readonly vectorFunctions: number;
  /** The type of `X87Function`s, and the slot of the first. */
  readonly x87FunctionType: number;
  readonly x87Functions: number;
  /** Goes on at `State.blockRip`: a handler without parameters. */
  readonly lookup: number;
  /** The guest's TSC, 64 bits. */
  readonly timeStamp: number;
  /** (port, size) → what it answers, below 0 where microcode has to ask; (port, size, value) → 0 where it has to. */
  readonly portRead: number;
  readonly portWrite: number;
  /** (index, low half, high half) → the same, for MSRs. */
  readonly msrWrite: number;
  /** The type of handlers. */
  readonly handlerType: number;
}
