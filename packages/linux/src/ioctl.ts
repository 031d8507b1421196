/** ioctl(2): requests of devices, and the encoding of their numbers (asm-generic/ioctl.h). */

import { tryDirectIoctl } from "./direct-syscall.ts";
import { hex, SystemError } from "./errors.ts";
import { bind, lastErrno } from "./libc.ts";

const c = {
  buffer: bind<(fd: number, request: number, argument: ArrayBufferLike | ArrayBufferView) => number>(
    "int ioctl(int, unsigned long, void *)",
  ),
};

const READ = 2;
const WRITE = 1;

/** A request number from its direction, type letter, number and argument size in bytes. */
function encode(direction: number, type: number, number: number, size: number): number {
  return direction * 2 ** 30 + size * 2 ** 16 + type * 2 ** 8 + number;
}

/** `_IO`: no argument, or a plain number. */
export function io(type: number, number: number): number {
  return encode(0, type, number, 0);
}

/** `_IOR`: the kernel fills the argument. */
export function ior(type: number, number: number, size: number): number {
  return encode(READ, type, number, size);
}

/** `_IOW`: the kernel reads the argument. */
export function iow(type: number, number: number, size: number): number {
  return encode(WRITE, type, number, size);
}

/** `_IOWR`: both. */
export function iowr(type: number, number: number, size: number): number {
  return encode(READ | WRITE, type, number, size);
}

/**
 * A request whose argument is a number, an address, or a buffer that the kernel reads or fills.
 * Returns the result, or the negative `errno`: no error object is made, as callers in hot paths expect some failures.
 */
export function tryIoctl(fd: number, request: number, argument: number | ArrayBufferLike | ArrayBufferView): number {
  if (typeof argument === "number") return tryDirectIoctl(fd, request, argument);
  const result = c.buffer(fd, request, argument);
  return result < 0 ? -lastErrno() : result;
}

/** {@link tryIoctl} that throws; `name` is the request's name in messages. */
export function ioctl(
  fd: number,
  request: number,
  argument: number | ArrayBufferLike | ArrayBufferView,
  name = hex(request),
): number {
  const result = tryIoctl(fd, request, argument);
  if (result < 0) throw new SystemError(-result, "ioctl", `${name} on fd ${fd}`);
  return result;
}
