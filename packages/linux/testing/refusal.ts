/** What the tests of this package share. */

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { constants } from "node:os";
import { SystemError } from "../src/index.ts";

type Code = keyof typeof constants.errno;

/** Asserts that a call throws a SystemError with all its parts right and a message of one line. */
export function refused(call: () => unknown, code: Code, syscall: string, subject: string): void {
  assert.throws(call, (error) => {
    assert.ok(error instanceof SystemError, String(error));
    const { name, errno } = error;
    assert.deepEqual(
      { name, code: error.code, errno, syscall: error.syscall, subject: error.subject },
      { name: "SystemError", code, errno: constants.errno[code], syscall, subject },
    );
    assert.ok(error.message.startsWith(`${syscall} ${subject}: `) && error.message.endsWith(` (${code})`));
    assert.ok(!error.message.includes("\n"));
    return true;
  });
}

/** The descriptors that this process has open now. The one that reads the list is in every list, so it cancels out. */
export function openDescriptors(): number {
  return readdirSync("/proc/self/fd").length;
}

/** A descriptor number that is never open. */
export const CLOSED = 1_000_000;
