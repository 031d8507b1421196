/** Requests to the kernel's KVM, and the structures that go with them. */

import { addressOf, Errno, SystemError, tryIoctl } from "@lodge/linux";
import { type Capability, capabilityName } from "../capability.ts";
import { KvmError } from "../errors.ts";
import type { FieldType } from "../layout/struct.ts";
import { EnableCap } from "../layout/vm.ts";
import { Request, type RequestName } from "./requests.ts";

type Argument = number | ArrayBufferLike | ArrayBufferView;

/** What a refusal means, by `errno`, where the kernel's own word does not say it. */
export type Hints = Partial<Record<number, string>>;

/** What a request is for, in messages. A function where the words would cost more than the request. */
type Subject = string | (() => string);

const NO_HINTS: Hints = {};

/** Makes a request. Returns the kernel's result. */
export function request(
  fd: number,
  name: RequestName,
  argument: Argument,
  subject: Subject = name,
  hints: Hints = NO_HINTS,
): number {
  const result = tryIoctl(fd, Request[name], argument);
  if (result >= 0) return result;
  throw refused(-result, name, typeof subject === "string" ? subject : subject(), hints);
}

/** The error for a request that the kernel refused. */
export function refused(errno: number, name: RequestName, subject: string, hints = NO_HINTS): KvmError {
  const cause = new SystemError(errno, "ioctl", name);
  const meaning = hints[errno] ?? cause.message;
  const text = subject === name ? meaning : `${subject}: ${meaning}`;
  return new KvmError("KVM_REQUEST_FAILED", hints[errno] === undefined ? text : `${text} (${name}: ${cause.code})`, {
    cause,
  });
}

/**
 * Where structures lie during requests. One place serves them all: the kernel is done with it when a request returns, and what
 * is decoded is a copy. Its address is a number, which costs less to hand over than a buffer.
 */
const scratch = new DataView(new ArrayBuffer(4096));
const scratchAddress = addressOf(scratch);

/** A structure that the kernel fills. */
export function get<T>(fd: number, name: RequestName, layout: FieldType<T>): T {
  request(fd, name, scratchAddress);
  return layout.read(scratch, 0);
}

/** A structure that the kernel reads. */
export function set<T>(
  fd: number,
  name: RequestName,
  layout: FieldType<T>,
  value: T,
  subject?: Subject,
  hints?: Hints,
): number {
  layout.write(scratch, 0, value);
  return request(fd, name, scratchAddress, subject, hints);
}

/** Refuses, with its name, what this host cannot do. `check` is the `checkExtension` that counts. */
export function requireCapability(
  check: (capability: Capability) => number,
  capability: Capability,
  what: string,
): void {
  if (check(capability) > 0) return;
  throw new KvmError(
    "KVM_CAPABILITY_MISSING",
    `${what}: this host's KVM lacks ${capabilityName(capability)}; a newer kernel or another processor may have it`,
  );
}

/** KVM_ENABLE_CAP on a machine or a vCPU. */
export function enableCapability(fd: number, capability: Capability, args: readonly bigint[]): void {
  const value = { cap: capability, flags: 0, args: Array.from({ length: 4 }, (_, index) => args[index] ?? 0n) };
  set(fd, "KVM_ENABLE_CAP", EnableCap, value, `enabling ${capabilityName(capability)}`, {
    [Errno.EINVAL]:
      "this host does not know it, or not with these arguments, or not at this point of the machine's life",
  });
}

/**
 * A list with a count in front, whose length only the kernel knows: asks with more room until it fits. `make` gives a
 * buffer for so many entries with the count filled in.
 */
export function growing(fd: number, name: RequestName, make: (count: number) => DataView): DataView {
  for (let count = 128; ; count *= 2) {
    const view = make(count);
    const result = tryIoctl(fd, Request[name], view);
    if (result >= 0) return view;
    if (-result !== Errno.E2BIG || count > 65536) throw refused(-result, name, name);
  }
}
