/** Namespaces of the calling thread (namespaces(7)): unshare(2), setns(2). */

import { check, hex } from "./errors.ts";
import { bind } from "./libc.ts";

const c = {
  unshare: bind<(flags: number) => number>("int unshare(int)"),
  setns: bind<(fd: number, kind: number) => number>("int setns(int, int)"),
};

/** linux/sched.h: CLONE_*. */
export const Namespace = { NEWNS: 0x00020000, NEWNET: 0x40000000 } as const;

/** Puts this thread, and what it starts from now on, into new namespaces of these kinds. */
export function unshare(kinds: number): void {
  check(c.unshare(kinds), "unshare", hex(kinds));
}

/** Puts this thread into the namespace of an open `/proc/PID/ns/…`. */
export function setns(fd: number, kind: number): void {
  check(c.setns(fd, kind), "setns", `fd ${fd}`);
}
