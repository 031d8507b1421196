import assert from "node:assert/strict";
import { test } from "node:test";
import { checkDisks, parseDisk } from "./options.ts";

test("a disk as it stands on a command line", () => {
  assert.deepEqual(parseDisk("a.img"), { file: "a.img", readonly: false });
  assert.deepEqual(parseDisk("a,,b,format=qcow2,readonly,cache=none,error=stop,serial=A1"), {
    file: "a,b",
    format: "qcow2",
    readonly: true,
    cache: "none",
    error: "stop",
    serial: "A1",
  });
  assert.deepEqual(parseDisk("a,iops=500,iops-burst=1000,bps=10M,bps-burst=1M").limits, {
    iops: 500,
    iopsBurst: 1000,
    bps: 10 << 20,
    bpsBurst: 1 << 20,
  });
});

test("what cannot be meant is refused by its name", () => {
  for (const [text, message] of [
    ["a,cache=fast", /--disk cache=fast: there is writeback, none, writethrough, directsync, unsafe/],
    ["a,error=panic", /--disk error=panic: there is report, stop, ignore/],
    ["a,iops=0", /--disk iops "0" is no number from 1 on/],
    ["a,iops=many", /--disk iops "many"/],
    ["a,bps=0", /--disk bps 0: nothing would ever pass/],
    ["a,iops-burst=5", /a burst is of a limit/],
    ["a,bps=1M,iops-burst=5", /a burst is of a limit/],
  ] as const) {
    assert.throws(() => parseDisk(text), { code: "VMM_CONFIG", message }, text);
  }
  assert.throws(() => checkDisks([{ file: "" }]), /a disk without a file/);
  assert.throws(() => checkDisks([{ file: "a", serial: "ü" }]), /is not 1 to 20 characters of ASCII/);
  const twice = ["a", "b"].map((file) => ({ file, serial: "1" }));
  assert.throws(() => checkDisks(twice), /the disks a and b have one serial, 1/);
  assert.throws(() => checkDisks([{ file: "a", limits: { iops: -1 } }]), /disk a: iops -1: a limit is/);
});
