/**
 * Cases that once differed, as `npm run fuzz:cpu` printed them ("repro:"). They run in every test.
 * Each is shrunk: registers that do not matter are 0.
 */

export const REGRESSIONS: readonly { readonly why: string; readonly line: string }[] = [];
