/** The kernel's random bytes: getrandom(2). Node's way to them loads all of its cryptography first, which takes 10 to 40 ms. */

import { SystemCall, trySyscall } from "./direct-syscall.ts";
import { Errno, SystemError } from "./errors.ts";
import { addressOf } from "./memory.ts";

/** Fills `target`. Waits only on a host that has just begun and has no entropy yet. */
export function fillRandom(target: Uint8Array): void {
  const address = addressOf(target);
  for (let done = 0; done < target.length; ) {
    // Signals cut larger requests short.
    const got = trySyscall(SystemCall.getrandom, address + done, Math.min(target.length - done, LARGEST), 0);
    if (got >= 0) done += got;
    else if (got !== -Errno.EINTR) throw new SystemError(-got, "getrandom", `${target.length} bytes`);
  }
}

const LARGEST = 2 ** 20;

/** So many of them. */
export function randomBytes(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  fillRandom(bytes);
  return bytes;
}
