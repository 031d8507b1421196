/** What is kept of a guest's code, for one vCPU: a guest that makes new code for ever shall cost time, not memory. */

/** How much there is at present, by {@link CODE_LIMITS}. */
export interface CodeKept {
  /** Decoded blocks, and those that are no more but whose records may still be reached. */
  readonly blocks: number;
  /** Decoded instructions that TypeScript does. */
  readonly microcode: number;
  /** Instructions and modes whose shapes are known by a number. */
  readonly shapes: number;
  /** Virtual pages that the jump cache may have addresses of. */
  readonly jumpPages: number;
  /** WebAssembly that handlers were made of. */
  readonly handlerBytes: number;
  /** What compiled regions take, as `residentBytes` estimates it. */
  readonly regionBytes: number;
}

/**
 * Where blocks, instructions or handlers are used up all code is forgotten, as when the arena of records is full: records
 * name each other and their handlers, so that nothing can go alone. A guest is not to come to that soon: what it still uses is decoded
 * again, and all of its regions compiled again, which takes seconds. Debian's kernel has decoded 70,000 blocks when it begins its
 * first program, and 120,000 when a program with 60 libraries (fio) has done its first work; it has some 2,000 handlers, of 400 bytes
 * each. The jump cache and the known shapes are emptied. Regions go one by one: see regions.ts.
 *
 * Not frozen: tests lower them.
 */
export const CODE_LIMITS: { -readonly [name in keyof CodeKept]: number } = {
  blocks: 240_000,
  microcode: 20_000,
  shapes: 20_000,
  jumpPages: 8192,
  handlerBytes: 4 * 2 ** 20,
  regionBytes: 64 * 2 ** 20,
};

/** When images of a guest's code (code-image.ts) are made. Not frozen: tests lower it. */
export const CODE_IMAGES = {
  /** Of so many blocks at least: a system's. */
  fewestBlocks: 5000,
  /** Once more of a guest that had one, where it had so much besides, and so many times at most. */
  fewestNewBlocks: 1000,
  fewestNewRegions: 16,
  generations: 8,
};
