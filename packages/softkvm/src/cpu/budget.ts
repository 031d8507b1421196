/**
 * What a vCPU may do between two looks at the clock and at what other threads ask: some 100 µs of guest code, so that a
 * kick is seen in time. A unit is a short loop's turn in compiled code; what takes longer costs more.
 */
export const Budget = {
  full: 40_000,
  /** A jump in the interpreter, or one that the jump cache is asked for outside of a region. */
  jump: 4,
  /** A jump by a region's dispatcher. */
  dispatch: 2,
  /** So many instructions of a compiled loop cost one more. */
  loopInstructions: 16,
  /** So many bytes that an instruction fills or copies at once cost one more. */
  bulkBytes: 16,
  /** A stay in TypeScript. */
  entry: 40,
  /** An access that misses the lookaside buffers. */
  access: 120,
  /** A register of one of the monitor's devices. */
  device: 300,
  /** A page walk in WebAssembly. */
  walk: 12,
} as const;
