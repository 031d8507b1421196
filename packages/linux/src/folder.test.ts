import assert from "node:assert/strict";
import {
  mkdirSync,
  mkdtempDisposableSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { CLOSED, openDescriptors, refused } from "../testing/refusal.ts";
import { Descriptor, OpenFlag, open } from "./file.ts";
import { At, Dirent, FolderFlag, getdents64, linkat, openat, readlinkat, seek } from "./folder.ts";

const folder = () => mkdtempDisposableSync(join(tmpdir(), "lodge-folder-"));
const name = (text: string) => Buffer.from(text);

test("openat opens relative to a folder and follows no link that it shall not", () => {
  using dir = folder();
  const before = openDescriptors();
  {
    using root = new Descriptor(open(dir.path, OpenFlag.RDONLY | FolderFlag.DIRECTORY));
    using made = new Descriptor(openat(root.fd, name("made"), OpenFlag.WRONLY | OpenFlag.CREAT, 0o640));
    assert.ok(made.fd > 0);
    assert.equal(statSync(join(dir.path, "made")).mode & 0o777, 0o640 & ~process.umask());
    symlinkSync("made", join(dir.path, "link"));
    using pinned = new Descriptor(openat(root.fd, name("link"), FolderFlag.PATH | FolderFlag.NOFOLLOW));
    assert.equal(Buffer.from(readlinkat(pinned.fd, name(""))).toString(), "made");
    assert.equal(Buffer.from(readlinkat(root.fd, name("link"))).toString(), "made");
    refused(() => openat(root.fd, name("link"), OpenFlag.RDONLY | FolderFlag.NOFOLLOW), "ELOOP", "openat", '"link"');
    refused(() => openat(root.fd, name("none"), OpenFlag.RDONLY), "ENOENT", "openat", '"none"');
    refused(() => openat(root.fd, name("ma\0de"), OpenFlag.RDONLY), "EINVAL", "openat", '"ma\\u0000de"');
    refused(() => readlinkat(root.fd, name("made")), "EINVAL", "readlinkat", '"made"');
  }
  assert.equal(openDescriptors(), before);
});

test("names are bytes, not text", () => {
  using dir = folder();
  using root = new Descriptor(open(dir.path, OpenFlag.RDONLY | FolderFlag.DIRECTORY));
  const odd = Uint8Array.of(0xff, 0xfe);
  using made = new Descriptor(openat(root.fd, odd, OpenFlag.WRONLY | OpenFlag.CREAT));
  assert.ok(made.fd > 0);
  assert.deepEqual(readdirSync(dir.path, { encoding: "buffer" }), [Buffer.from(odd)]);
});

test("linkat gives a pinned file another name", () => {
  using dir = folder();
  writeFileSync(join(dir.path, "one"), "content");
  using root = new Descriptor(open(dir.path, OpenFlag.RDONLY | FolderFlag.DIRECTORY));
  using pinned = new Descriptor(openat(root.fd, name("one"), FolderFlag.PATH));
  linkat(At.FDCWD, name(`/proc/self/fd/${pinned.fd}`), root.fd, name("two"), At.SYMLINK_FOLLOW);
  assert.equal(readFileSync(join(dir.path, "two"), "utf8"), "content");
  refused(() => linkat(root.fd, name("one"), root.fd, name("two"), 0), "EEXIST", "linkat", '"one" to "two"');
});

test("getdents64 lists what readdir lists, from any entry on", () => {
  using dir = folder();
  for (let index = 0; index < 100; index++) writeFileSync(join(dir.path, `file${index}`), "");
  mkdirSync(join(dir.path, "folder"));
  using root = new Descriptor(open(dir.path, OpenFlag.RDONLY | FolderFlag.DIRECTORY));
  const buffer = new Uint8Array(512);
  const view = new DataView(buffer.buffer);
  const found: { name: string; next: bigint }[] = [];
  for (let length = getdents64(root.fd, buffer); length > 0; length = getdents64(root.fd, buffer)) {
    for (let at = 0; at < length; at += view.getUint16(at + Dirent.LENGTH, true)) {
      const end = buffer.indexOf(0, at + Dirent.NAME);
      const entry = Buffer.from(buffer.subarray(at + Dirent.NAME, end)).toString();
      found.push({ name: entry, next: view.getBigInt64(at + Dirent.OFFSET, true) });
      if (entry === "folder") assert.equal(buffer[at + Dirent.TYPE], 4, "DT_DIR");
    }
  }
  const names = found.map((entry) => entry.name);
  assert.deepEqual(names.toSorted(), [".", "..", ...readdirSync(dir.path)].toSorted());
  seek(root.fd, found[50]!.next);
  getdents64(root.fd, buffer);
  const end = buffer.indexOf(0, Dirent.NAME);
  assert.equal(Buffer.from(buffer.subarray(Dirent.NAME, end)).toString(), names[51]);
  refused(() => getdents64(CLOSED, buffer), "EBADF", "getdents64", `fd ${CLOSED}`);
  refused(() => seek(CLOSED, 5n), "EBADF", "lseek", `fd ${CLOSED} to 5`);
});
