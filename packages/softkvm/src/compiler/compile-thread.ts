/** What goes between a vCPU's thread and one that compiles beside it, and what the host has to lend for that. */

/** A thread that calls `compileOrder` for one vCPU's. What is asked of it here neither waits nor throws. */
export interface CompileThread {
  /** It takes orders, and lives. Until it does, or once it has gone, the vCPU's thread compiles. */
  readonly isReady: boolean;
  /** From now on it would be of use. */
  want(): void;
  order(order: RegionOrder): void;
  /** What has come of the orders, in their order, each once; undefined while nothing more has. */
  take(): CompiledRegion | "nothing" | undefined;
}

/** A region to be compiled: all that writing it takes. */
export interface RegionOrder {
  /** Where the vCPU's state is in linear memory. */
  readonly base: number;
  readonly slot: number;
  /** Which instructions there are, by the decoder's features; undefined: all. */
  readonly features: readonly string[] | undefined;
  /** `Field` of each block (order.ts). */
  readonly members: Float64Array<ArrayBuffer>;
  /** Pairs: the number of a member, and whether it is loose. */
  readonly seeds: Int32Array<ArrayBuffer>;
  /** The blocks' bytes, one behind the other. */
  readonly code: Uint8Array<ArrayBuffer>;
}

export interface CompiledRegion {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** A `WebAssembly.Module`, which the types of Node alone do not know. */
  readonly module: object;
  /** By the numbers of members. */
  readonly entries: readonly number[];
}
