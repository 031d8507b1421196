import assert from "node:assert/strict";
import { constants } from "node:os";
import { test } from "node:test";
import { check, Errno, hex, SystemError } from "./errors.ts";
import { Seek, seekExtent } from "./file.ts";

test("a system error carries its parts and says them in one line", () => {
  const error = new SystemError(Errno.ENOENT, "open", "/no/such");
  assert.equal(error.message, "open /no/such: no such file or directory (ENOENT)");
  assert.equal(error.name, "SystemError");
  assert.equal(error.code, "ENOENT");
  assert.equal(error.errno, 2);
  assert.equal(error.syscall, "open");
  assert.equal(error.subject, "/no/such");
  assert.ok(error instanceof Error);
});

test("an error number without a name keeps its number", () => {
  const error = new SystemError(1234, "ioctl", "KVM_RUN on fd 3");
  assert.equal(error.code, "E1234");
  assert.equal(error.message, "ioctl KVM_RUN on fd 3: unknown error (E1234)");
});

test("Errno agrees with Node", () => {
  for (const [code, errno] of Object.entries(Errno)) {
    assert.equal(errno, constants.errno[code as keyof typeof Errno], code);
    assert.equal(new SystemError(errno, "x", "y").code, code);
  }
});

test("check passes results through and throws the errno of the failed call", () => {
  assert.equal(check(0, "x", "y"), 0);
  assert.equal(check(7, "x", "y"), 7);
  assert.throws(() => seekExtent(-1, 0, Seek.END), { code: "EBADF" });
  assert.throws(() => check(-1, "again", 5), { code: "EBADF", syscall: "again", subject: "5" });
});

test("hex", () => {
  assert.equal(hex(4096), "0x1000");
  assert.equal(hex(0xffff_ffff_ffff_ffffn), "0xffffffffffffffff");
});
