import assert from "node:assert/strict";
import { mkdtempDisposableSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { CLOSED, refused } from "../testing/refusal.ts";
import { Descriptor, OpenFlag, open } from "./file.ts";
import { canLockRange, Fcntl, lockRange } from "./locks.ts";

test("locks of a range belong to the open file", () => {
  using dir = mkdtempDisposableSync(join(tmpdir(), "lodge-locks-"));
  const path = join(dir.path, "file");
  using one = new Descriptor(open(path, OpenFlag.RDWR | OpenFlag.CREAT));
  using two = new Descriptor(open(path, OpenFlag.RDWR));
  assert.equal(lockRange(one.fd, Fcntl.RDLCK, 100, 2), true);
  assert.equal(lockRange(two.fd, Fcntl.RDLCK, 101, 1), true, "shared ones live together");
  assert.equal(canLockRange(two.fd, Fcntl.WRLCK, 100, 1), false);
  assert.equal(canLockRange(two.fd, Fcntl.WRLCK, 102, 1), true);
  assert.equal(lockRange(two.fd, Fcntl.WRLCK, 100, 1), false);
  assert.equal(lockRange(one.fd, Fcntl.UNLCK, 100, 1), true);
  assert.equal(lockRange(two.fd, Fcntl.WRLCK, 100, 1), true);
  two.close();
  assert.equal(canLockRange(one.fd, Fcntl.WRLCK, 0, 2 ** 40), true, "closing gives back");
  refused(() => lockRange(CLOSED, Fcntl.RDLCK, 1, 1), "EBADF", "fcntl", `fd ${CLOSED}, lock of 1 bytes at 1`);
  refused(() => canLockRange(CLOSED, Fcntl.RDLCK, 1, 1), "EBADF", "fcntl", `fd ${CLOSED}, lock of 1 bytes at 1`);
});
