import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { test } from "node:test";
import { CLOSED, refused } from "../testing/refusal.ts";
import { Errno } from "./errors.ts";
import { close, OpenFlag, open } from "./file.ts";
import { io, ioctl, ior, iow, iowr, tryIoctl } from "./ioctl.ts";
import { addressOf } from "./memory.ts";

/** asm-generic/ioctls.h; requests older than the encoding are bare numbers. */
const TIOCGWINSZ = 0x5413;
const TIOCSWINSZ = 0x5414;
const T = "T".charCodeAt(0);
const TIOCGPTN = ior(T, 0x30, 4);
const TIOCSPTLCK = iow(T, 0x31, 4);
const TIOCGPTPEER = io(T, 0x41);

test("requests are encoded as in asm-generic/ioctl.h", () => {
  assert.equal(io(0xae, 0x00), 0xae00, "KVM_GET_API_VERSION");
  assert.equal(TIOCGPTN, 0x8004_5430);
  assert.equal(TIOCSPTLCK, 0x4004_5431);
  assert.equal(iowr(0xae, 0x05, 8), 0xc008_ae05, "KVM_GET_SUPPORTED_CPUID");
});

test("a pseudoterminal takes numbers, buffers and addresses", () => {
  const multiplexer = open("/dev/ptmx", OpenFlag.RDWR | O_NOCTTY);
  const number = new Uint32Array(1);
  assert.equal(ioctl(multiplexer, TIOCGPTN, number), 0);
  assert.equal(ioctl(multiplexer, TIOCSPTLCK, new Int32Array([0]).buffer), 0);
  // The argument is a plain number, the result a descriptor.
  const peer = ioctl(multiplexer, TIOCGPTPEER, OpenFlag.RDWR | O_NOCTTY);
  assert.ok(peer > 2);

  ioctl(peer, TIOCSWINSZ, new Uint16Array([25, 80, 0, 0]));
  const seen = new Uint16Array(6);
  ioctl(multiplexer, TIOCGWINSZ, seen.subarray(1, 5));
  assert.deepEqual([...seen], [0, 25, 80, 0, 0, 0], "a view is filled where it begins");
  seen.fill(0);
  ioctl(multiplexer, TIOCGWINSZ, addressOf(seen));
  assert.deepEqual([...seen.subarray(0, 2)], [25, 80]);
  close(peer);
  close(multiplexer);
});

const O_NOCTTY = 0o400;

test("the API version of KVM is 12", { skip: existsSync("/dev/kvm") ? false : "no /dev/kvm" }, () => {
  const fd = open("/dev/kvm", OpenFlag.RDWR);
  assert.equal(ioctl(fd, io(0xae, 0x00), 0), 12);
  close(fd);
});

test("refusals: a number from tryIoctl, an error from ioctl", () => {
  const fd = open("/dev/null", OpenFlag.RDONLY);
  assert.equal(tryIoctl(fd, TIOCGWINSZ, new Uint8Array(8)), -Errno.ENOTTY);
  assert.equal(tryIoctl(CLOSED, TIOCGWINSZ, 0), -Errno.EBADF);
  refused(() => ioctl(fd, TIOCGPTN, new Uint8Array(4)), "ENOTTY", "ioctl", `0x80045430 on fd ${fd}`);
  refused(() => ioctl(fd, TIOCGPTN, 0, "TIOCGPTN"), "ENOTTY", "ioctl", `TIOCGPTN on fd ${fd}`);
  close(fd);
});
