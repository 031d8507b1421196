/** The binding to the C library. Only this package sees koffi; everything else sees numbers and buffers. */

import { koffi } from "./koffi.ts";

const library = koffi.load(null);

/**
 * Binds a C function by its prototype. Addresses are `intptr_t` or `uintptr_t` (user addresses stay below 2^47, so they
 * are exact as numbers); `void *` takes a buffer or `null`.
 */
// biome-ignore lint/suspicious/noExplicitAny: the prototype string carries the types; each caller states them again
export function bind<F extends (...args: any[]) => unknown>(prototype: string): F {
  return library.func(prototype) as unknown as F;
}

/** `errno` of this thread's last failed call. Read it before anything else runs. */
export function lastErrno(): number {
  return koffi.errno();
}
