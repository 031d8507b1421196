/** A host without KVM, without rights, with something else at its place, with another version. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempDisposableSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { KvmError, type KvmErrorCode } from "../errors.ts";
import { checkApiVersion, openDevice } from "./device.ts";

/** The call is refused with this code and a message of one line that says all of this. */
function refused(call: () => unknown, code: KvmErrorCode, ...parts: RegExp[]): void {
  assert.throws(call, (error) => {
    assert.ok(error instanceof KvmError, String(error));
    assert.equal(error.code, code);
    for (const part of parts) assert.match(error.message, part);
    assert.ok(!error.message.includes("\n"));
    return true;
  });
}

test("no device", () => {
  refused(
    () => openDevice("/dev/no-such-kvm"),
    "KVM_ABSENT",
    /no-such-kvm: ENOENT/,
    /kvm_intel or kvm_amd/,
    /software/,
  );
});

test("something else than KVM", () => {
  using dir = mkdtempDisposableSync(join(tmpdir(), "lodge-device-"));
  const file = join(dir.path, "file");
  writeFileSync(file, "");
  for (const path of ["/dev/null", dir.path, file, join(file, "below")]) {
    refused(() => openDevice(path), "KVM_ABSENT", /is not KVM's device \(E\w+\)/, /\/dev\/kvm/);
  }
});

test("no permission", () => {
  using dir = mkdtempDisposableSync(join(tmpdir(), "lodge-device-"));
  const file = join(dir.path, "kvm");
  writeFileSync(file, "", { mode: 0 });
  const script = join(import.meta.dirname, "../../testing/unprivileged.ts");
  const { code, message } = JSON.parse(execFileSync(process.execPath, [script, file], { encoding: "utf8" }));
  assert.equal(code, "KVM_PERMISSION");
  assert.match(message, /^no permission for .*: add your user to the group that owns it \(usermod -aG kvm NAME.*\)$/);
});

test("another version of the interface", () => {
  checkApiVersion(12, "/dev/kvm");
  for (const version of [0, 11, 13]) {
    refused(() => checkApiVersion(version, "/dev/kvm"), "KVM_API_VERSION", new RegExp(`version ${version} `), /kernel/);
  }
});
