import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { cpio } from "../packages/vmm/src/images/cpio.ts";
import { dependenciesOf, withoutSignature } from "../packages/vmm/src/images/kernel-modules.ts";
import { findProgram } from "../packages/vmm/src/images/programs.ts";
import { initramfsKey } from "./initramfs.ts";

const ingredients = { busybox: Buffer.from("busybox"), init: Buffer.from("init"), run: Buffer.from("run") };

test("the cache key follows what the initramfs is made from", () => {
  const key = initramfsKey(ingredients);
  assert.equal(initramfsKey({ ...ingredients }), key);
  for (const name of ["busybox", "init", "run"] as const) {
    assert.notEqual(initramfsKey({ ...ingredients, [name]: Buffer.from("other") }), key);
  }
  // A byte that moves from one part to the next is a change too.
  assert.notEqual(initramfsKey({ ...ingredients, init: Buffer.from("ini"), run: Buffer.from("trun") }), key);
});

test("dependencies are read from a module's information", () => {
  const module = (text: string) => Buffer.from(`\x7fELF\0license=GPL\0${text}\0name=x\0`);
  assert.deepEqual(dependenciesOf(module("depends=kvm,crypto-engine")), ["kvm", "crypto_engine"]);
  assert.deepEqual(dependenciesOf(module("depends=")), []);
  assert.deepEqual(dependenciesOf(module("other=1")), []);
});

test("a module's signature is cut off, and nothing else", () => {
  const length = Buffer.alloc(12);
  length.writeUInt32BE(5, 8);
  const signed = Buffer.concat([
    Buffer.from("module"),
    Buffer.from("12345"),
    length,
    Buffer.from("~Module signature appended~\n"),
  ]);
  assert.equal(withoutSignature(signed).toString(), "module");
  assert.equal(withoutSignature(Buffer.from("module")).toString(), "module");
  assert.throws(() => withoutSignature(signed.subarray(7)), /damaged/);
});

test("cpio reads the archive", { skip: findProgram("cpio") === undefined && "cpio is not installed" }, () => {
  const archive = cpio([
    { kind: "directory", path: "bin" },
    { kind: "file", path: "bin/odd", mode: 0o755, data: Buffer.from("12345") },
    { kind: "link", path: "bin/sh", to: "odd" },
    { kind: "characters", path: "console", major: 5, minor: 1 },
  ]);
  const { stdout, status } = spawnSync("cpio", ["-tv"], { input: archive, env: { ...process.env, LC_ALL: "C" } });
  const lines = stdout.toString().trimEnd().split("\n");
  assert.equal(status, 0);
  assert.match(lines[0] ?? "", /^drwxr-xr-x .* bin$/);
  assert.match(lines[1] ?? "", /^-rwxr-xr-x .* 5 .* bin\/odd$/);
  assert.match(lines[2] ?? "", /^lrwxrwxrwx .* bin\/sh -> odd$/);
  assert.match(lines[3] ?? "", /^crw------- .* 5, +1 .* console$/);
});
