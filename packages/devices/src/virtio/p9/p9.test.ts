/** The shared folder, worked by messages as Linux sends them. What its driver makes of it is tested in a guest. */

import assert from "node:assert/strict";
import {
  constants,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempDisposableSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Errno } from "../shared-folder/refusal.ts";
import { TestGuest, TRANSITIONAL_KINDS } from "../testing/guest.ts";
import { P9Device } from "./p9.ts";
import { FieldReader, FieldWriter, HEADER_LENGTH, Message, NO_FID } from "./protocol.ts";

type Write = (fields: FieldWriter) => FieldWriter;

/** A client with its guest. `folder` holds `share/` and, beside it, `secret`. */
class Client implements AsyncDisposable {
  readonly device: P9Device;
  readonly guest: TestGuest;
  readonly #folder: { path: string; remove(): void };
  #tag = 0;

  constructor({ readOnly = false, features = -1n } = {}) {
    this.#folder = mkdtempDisposableSync(join(tmpdir(), "lodge-9p-"));
    mkdirSync(this.root);
    writeFileSync(this.outside("secret"), "the host's own");
    this.device = new P9Device({ folder: this.root, tag: "work", readOnly });
    this.guest = new TestGuest(this.device, { features, memoryBytes: 4 << 20 }).start();
  }

  get root(): string {
    return join(this.#folder.path, "share");
  }
  at(name: string): string {
    return join(this.root, name);
  }
  outside(name: string): string {
    return join(this.#folder.path, name);
  }

  /** Sends a request; returns the answer's fields, or the errno that it was refused with. */
  async try(
    type: number,
    write: Write,
    data: Uint8Array = new Uint8Array(0),
    room = 8192,
  ): Promise<FieldReader | number> {
    const tag = this.#tag++ & 0x7fff;
    const request = write(new FieldWriter()).finish(type, tag, data.length);
    const answer = this.guest.room(room);
    const buffers = [this.guest.give(request), ...(data.length ? [this.guest.give(data)] : []), answer];
    const length = await this.guest.request(0, buffers, true);
    const bytes = this.guest.bytes(answer).subarray(0, length);
    const view = new DataView(bytes.buffer, 0, length);
    assert.equal(view.getUint32(0, true), length);
    assert.equal(view.getUint16(5, true), tag);
    const fields = new FieldReader(bytes);
    if (view.getUint8(4) === Message.RLERROR) return fields.u32();
    assert.equal(view.getUint8(4), type + 1);
    return fields;
  }

  async do(type: number, write: Write, data?: Uint8Array): Promise<FieldReader> {
    const answer = await this.try(type, write, data);
    if (typeof answer === "number") assert.fail(`message ${type} was refused with errno ${answer}`);
    return answer;
  }

  async refused(errno: number, type: number, write: Write): Promise<void> {
    assert.equal(await this.try(type, write), errno, `message ${type}`);
  }

  async attach(): Promise<this> {
    const version = await this.do(Message.VERSION, (f) => f.u32(65536).string("9P2000.L"));
    assert.deepEqual([version.u32(), version.string()], [65536, "9P2000.L"]);
    await this.do(Message.ATTACH, (f) => f.u32(0).u32(NO_FID).string("root").string("").u32(0));
    return this;
  }

  walk(from: number, to: number, ...names: string[]): Promise<FieldReader | number> {
    return this.try(Message.WALK, (f) => {
      f.u32(from).u32(to).u16(names.length);
      for (const name of names) f.string(name);
      return f;
    });
  }

  /** Walks all the way and opens. */
  async open(to: number, flags: number, ...names: string[]): Promise<void> {
    const answer = await this.walk(0, to, ...names);
    if (typeof answer === "number") assert.fail(`walk: errno ${answer}`);
    assert.equal(answer.u16(), names.length);
    await this.do(Message.LOPEN, (f) => f.u32(to).u32(flags));
  }

  async read(fid: number, offset: number, count: number): Promise<string> {
    const answer = await this.do(Message.READ, (f) => f.u32(fid).u64(offset).u32(count));
    const length = answer.u32();
    let text = "";
    for (let at = 0; at < length; at++) text += String.fromCharCode(answer.u8());
    return text;
  }

  async write(fid: number, offset: number, text: string): Promise<number> {
    const data = new TextEncoder().encode(text);
    return (await this.do(Message.WRITE, (f) => f.u32(fid).u64(offset).u32(data.length), data)).u32();
  }

  async list(fid: number, count = 512): Promise<string[]> {
    const names: string[] = [];
    for (let offset = 0n; ; ) {
      const answer = await this.do(Message.READDIR, (f) => f.u32(fid).u64(offset).u32(count));
      const length = answer.u32();
      if (length === 0) return names;
      for (let at = 0; at < length; ) {
        answer.u8();
        answer.u32();
        answer.u64();
        offset = answer.i64();
        answer.u8();
        const name = answer.string();
        names.push(name);
        at += 24 + name.length;
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.guest.transport.close();
    this.device.close();
    this.#folder.remove();
  }
}

const openDescriptors = () => readdirSync("/proc/self/fd").length;

for (const { name, features } of TRANSITIONAL_KINDS) {
  test(`files go both ways over ${name}`, async () => {
    await using client = await new Client({ features }).attach();
    writeFileSync(client.at("greeting"), "hello guest");
    await client.open(1, constants.O_RDONLY, "greeting");
    assert.equal(await client.read(1, 6, 100), "guest");
    assert.equal(await client.read(1, 11, 100), "");
    await client.walk(0, 2);
    const mode = 0o640;
    await client.do(Message.LCREATE, (f) =>
      f
        .u32(2)
        .string("answer")
        .u32(constants.O_RDWR | constants.O_EXCL)
        .u32(mode)
        .u32(0),
    );
    assert.equal(await client.write(2, 0, "hello host"), 10);
    assert.equal(await client.write(2, 6, "Lodge"), 5);
    await client.do(Message.FSYNC, (f) => f.u32(2).u32(0));
    assert.equal(readFileSync(client.at("answer"), "utf8"), "hello Lodge");
    assert.equal(statSync(client.at("answer")).mode & 0o7777, 0o640, "the guest's mode, whatever our umask");
    await client.do(Message.CLUNK, (f) => f.u32(1));
    await client.refused(Errno.EBADF, Message.CLUNK, (f) => f.u32(1));
  });
}

test("a share that is closed leaves no descriptor open, whatever was in hand", async () => {
  const open = async () => {
    await using client = await new Client().attach();
    writeFileSync(client.at("file"), "content");
    await client.open(1, constants.O_RDWR, "file");
    await client.walk(0, 2, "file", "none");
    await client.walk(0, 2, "none");
    await client.walk(0, 0, "file");
    await client.try(Message.LCREATE, (f) => f.u32(1).string("file").u32(0).u32(0o600).u32(0));
    await client.try(Message.RENAME, (f) => f.u32(1).u32(1).string("file"));
  };
  // The first of all may start the thread pool, which has descriptors of its own.
  await open();
  const before = openDescriptors();
  await open();
  assert.equal(openDescriptors(), before);
});

test("a large read crosses pieces and stops at the buffer's end", async () => {
  await using client = await new Client().attach();
  const content = "0123456789".repeat(2000);
  writeFileSync(client.at("large"), content);
  await client.open(1, constants.O_RDONLY, "large");
  assert.equal(await client.read(1, 5, 100_000), content.slice(5, 5 + 8192 - 11));
});

test("folders are listed, whatever a reply holds", async () => {
  await using client = await new Client().attach();
  const names = Array.from({ length: 300 }, (_, index) => `file-${index}`);
  for (const name of names) writeFileSync(client.at(name), "");
  await client.open(1, constants.O_RDONLY);
  assert.deepEqual((await client.list(1)).toSorted(), [".", "..", ...names].toSorted());
  assert.deepEqual((await client.list(1, 8000)).toSorted(), [".", "..", ...names].toSorted());
  writeFileSync(client.at("plain"), "");
  await client.open(2, constants.O_RDONLY, "plain");
  await client.refused(Errno.ENOTDIR, Message.READDIR, (f) => f.u32(2).u64(0).u32(100));
});

test("names are made, moved and removed; what is in hand stays in hand", async () => {
  await using client = await new Client().attach();
  await client.do(Message.MKDIR, (f) => f.u32(0).string("a").u32(0o755).u32(0));
  await client.do(Message.MKDIR, (f) => f.u32(0).string("b").u32(0o4777).u32(0));
  assert.equal(statSync(client.at("b")).mode & 0o7777, 0o777, "no set-user-ID");
  await client.do(Message.SYMLINK, (f) => f.u32(0).string("link").string("/etc/passwd").u32(0));
  assert.equal(readlinkSync(client.at("link")), "/etc/passwd");
  await client.walk(0, 1, "link");
  assert.equal((await client.do(Message.READLINK, (f) => f.u32(1))).string(), "/etc/passwd");
  writeFileSync(client.at("a/file"), "content");
  await client.open(2, constants.O_RDONLY, "a", "file");
  await client.walk(0, 3, "a");
  await client.walk(0, 4, "b");
  await client.do(Message.RENAMEAT, (f) => f.u32(0).string("a").u32(4).string("moved"));
  assert.ok(existsSync(client.at("b/moved/file")));
  assert.equal(await client.read(2, 0, 10), "content");
  await client.do(Message.RENAME, (f) => f.u32(2).u32(0).string("file"));
  await client.do(Message.LINK, (f) => f.u32(4).u32(2).string("second"));
  assert.equal(statSync(client.at("b/second")).nlink, 2);
  await client.refused(39, Message.UNLINKAT, (f) => f.u32(0).string("b").u32(0x200));
  await client.do(Message.UNLINKAT, (f) => f.u32(4).string("second").u32(0));
  await client.do(Message.REMOVE, (f) => f.u32(2));
  await client.do(Message.REMOVE, (f) => f.u32(3));
  assert.deepEqual([readdirSync(client.root), readdirSync(client.at("b"))], [["b", "link"], []]);
  await client.do(Message.MKNOD, (f) =>
    f
      .u32(0)
      .string("plain")
      .u32(constants.S_IFREG | 0o600)
      .u32(0)
      .u32(0)
      .u32(0),
  );
  assert.ok(statSync(client.at("plain")).isFile());
  for (const kind of [constants.S_IFCHR, constants.S_IFBLK, constants.S_IFIFO, constants.S_IFSOCK]) {
    await client.refused(Errno.EPERM, Message.MKNOD, (f) =>
      f
        .u32(0)
        .string("node")
        .u32(kind | 0o600)
        .u32(1)
        .u32(3)
        .u32(0),
    );
  }
});

test("attributes are told and set", async () => {
  await using client = await new Client().attach();
  writeFileSync(client.at("file"), "0123456789");
  await client.walk(0, 1, "file");
  const set = (valid: number, size = 0, seconds = 0) =>
    client.do(Message.SETATTR, (f) => {
      f.u32(1).u32(valid).u32(0o4600).u32(0).u32(0).u64(size);
      return f
        .u64(seconds)
        .u64(500_000_000)
        .u64(seconds + 1)
        .u64(0);
    });
  await set(1 | 8 | 0x10 | 0x20 | 0x80 | 0x100, 4, 1_000_000_000);
  const host = statSync(client.at("file"));
  assert.deepEqual([host.size, host.mode & 0o7777, host.atimeMs, host.mtimeMs], [4, 0o600, 1e12 + 500, 1e12 + 1000]);
  const told = await client.do(Message.GETATTR, (f) => f.u32(1).u64(0x7ffn));
  assert.equal(told.u64(), 0x7ff);
  told.u8();
  told.u32();
  told.u64();
  assert.deepEqual([told.u32(), told.u32(), told.u32()], [host.mode, host.uid, host.gid]);
  assert.deepEqual([told.u64(), told.u64(), told.u64()], [1, 0, 4]);
  told.u64();
  told.u64();
  assert.deepEqual([told.u64(), told.u64(), told.u64()], [1e9, 5e8, 1e9 + 1]);
  const space = await client.do(Message.STATFS, (f) => f.u32(0));
  assert.equal(space.u32(), 0x01021997);
});

test("nothing leads out of the folder", async () => {
  await using client = await new Client().attach();
  mkdirSync(client.at("inner"));
  mkdirSync(client.outside("next"));
  symlinkSync("..", client.at("up"));
  symlinkSync("../secret", client.at("leak"));
  symlinkSync("/etc", client.at("link"));
  // `..` at the root is the root, as in chroot.
  for (const names of [
    ["..", "secret"],
    ["..", "..", "etc"],
    ["inner", "..", "..", "secret"],
  ]) {
    const answer = await client.walk(0, 9, ...names);
    if (typeof answer !== "number") assert.ok(answer.u16() < names.length, names.join("/"));
    await client.refused(Errno.EBADF, Message.CLUNK, (f) => f.u32(9));
  }
  for (const name of ["../secret", "/etc/passwd", "inner/../../secret", "a\0b", "", ".", "x".repeat(256)]) {
    assert.equal(typeof (await client.walk(0, 9, name)), "number", name);
    for (const type of [Message.MKDIR, Message.SYMLINK, Message.UNLINKAT]) {
      assert.equal(typeof (await client.try(type, (f) => f.u32(0).string(name).string("t").u32(0))), "number", name);
    }
    const create = await client.try(Message.LCREATE, (f) => f.u32(0).string(name).u32(1).u32(0o600).u32(0));
    assert.equal(typeof create, "number", name);
    const move = await client.try(Message.RENAMEAT, (f) => f.u32(0).string("inner").u32(0).string(name));
    assert.equal(typeof move, "number", name);
  }
  // Links are things of their own: nothing is opened, created, cut or listed through them.
  await client.walk(0, 1, "leak");
  assert.equal(typeof (await client.try(Message.LOPEN, (f) => f.u32(1).u32(constants.O_RDONLY))), "number");
  assert.equal(
    typeof (await client.try(Message.SETATTR, (f) => {
      f.u32(1).u32(8).u32(0).u32(0).u32(0).u64(0);
      return f.u64(0).u64(0).u64(0).u64(0);
    })),
    "number",
  );
  assert.equal(
    typeof (await client.try(Message.SETATTR, (f) => {
      f.u32(1).u32(1).u32(0o777).u32(0).u32(0).u64(0);
      return f.u64(0).u64(0).u64(0).u64(0);
    })),
    "number",
  );
  for (const name of ["up", "link"]) {
    const through = await client.walk(0, 9, name, "secret");
    assert.ok(typeof through !== "number" && through.u16() === 1, "the link itself is all there is");
  }
  const create = await client.try(Message.LCREATE, (f) => f.u32(0).string("leak").u32(1).u32(0o600).u32(0));
  assert.equal(typeof create, "number");
  assert.equal(readFileSync(client.outside("secret"), "utf8"), "the host's own");
  assert.equal(statSync(client.outside("secret")).mode & 0o777, 0o666 & ~process.umask());

  // A folder in hand that the host moves out of the share is still that folder, and `..` from it is still the share.
  await client.walk(0, 2, "inner");
  renameSync(client.at("inner"), client.outside("inner"));
  const up = await client.walk(2, 3, "..", "secret");
  assert.ok(typeof up === "number" || up.u16() < 2);
  await client.do(Message.MKDIR, (f) => f.u32(2).string("made").u32(0o755).u32(0));
  assert.deepEqual(readdirSync(client.outside("inner")), ["made"]);
});

test("a read-only share changes nothing", async () => {
  await using client = await new Client({ readOnly: true }).attach();
  writeFileSync(client.at("file"), "stays");
  await client.open(1, constants.O_RDONLY, "file");
  assert.equal(await client.read(1, 0, 10), "stays");
  await client.walk(0, 2, "file");
  const erofs = (type: number, write: Write) => client.refused(Errno.EROFS, type, write);
  for (const flags of [constants.O_WRONLY, constants.O_RDWR, constants.O_TRUNC]) {
    await erofs(Message.LOPEN, (f) => f.u32(2).u32(flags));
  }
  await erofs(Message.LCREATE, (f) => f.u32(0).string("new").u32(0).u32(0o600).u32(0));
  await erofs(Message.WRITE, (f) => f.u32(1).u64(0).u32(0));
  await erofs(Message.MKDIR, (f) => f.u32(0).string("new").u32(0o755).u32(0));
  await erofs(Message.SYMLINK, (f) => f.u32(0).string("new").string("x").u32(0));
  await erofs(Message.MKNOD, (f) => f.u32(0).string("new").u32(constants.S_IFREG).u32(0).u32(0).u32(0));
  await erofs(Message.LINK, (f) => f.u32(0).u32(2).string("new"));
  await erofs(Message.RENAME, (f) => f.u32(2).u32(0).string("new"));
  await erofs(Message.RENAMEAT, (f) => f.u32(0).string("file").u32(0).string("new"));
  await erofs(Message.UNLINKAT, (f) => f.u32(0).string("file").u32(0));
  await erofs(Message.SETATTR, (f) => f.u32(2).u32(0).u32(0).u32(0).u32(0).u64(0).u64(0).u64(0).u64(0).u64(0));
  await erofs(Message.REMOVE, (f) => f.u32(2));
  assert.deepEqual([readdirSync(client.root), readFileSync(client.at("file"), "utf8")], [["file"], "stays"]);
});

test("what blocks or is no file is not opened", async () => {
  await using client = await new Client().attach();
  const { execFileSync } = await import("node:child_process");
  execFileSync("mkfifo", [client.at("pipe")]);
  await client.walk(0, 1, "pipe");
  for (const flags of [constants.O_RDONLY, constants.O_WRONLY, constants.O_RDWR]) {
    await client.refused(Errno.EPERM, Message.LOPEN, (f) => f.u32(1).u32(flags));
  }
  await client.refused(Errno.EPERM, Message.LCREATE, (f) => f.u32(0).string("pipe").u32(0).u32(0o600).u32(0));
  assert.ok(lstatSync(client.at("pipe")).isFIFO());
});

test("messages that lie about themselves break the queue or are refused", async () => {
  await using client = await new Client().attach();
  await client.refused(Errno.EPROTO, Message.WALK, (f) => f.u32(0).u32(1).u16(2).string("a"));
  await client.refused(Errno.EINVAL, Message.WALK, (f) => f.u32(0).u32(1).u16(17));
  await client.refused(Errno.EOPNOTSUPP, 200, (f) => f);
  await client.refused(Errno.EOPNOTSUPP, Message.XATTRWALK, (f) => f.u32(0).u32(1).string("user.x"));
  await client.refused(Errno.EINVAL, Message.VERSION, (f) => f.u32(100).string("9P2000.L"));
  const { guest } = client;
  guest.send(0, [guest.give([100, 0, 0, 0, 100, 0, 0]), guest.room(100)]);
  assert.match(guest.failures.join(), /a 9P message that does not fit/);
});

test("saved and constructed, files in hand are found again, and those that are gone are not", async () => {
  await using client = await new Client().attach();
  writeFileSync(client.at("stays"), "here");
  writeFileSync(client.at("goes"), "gone");
  await client.open(1, constants.O_RDWR, "stays");
  await client.open(2, constants.O_RDONLY, "goes");
  await client.guest.transport.pause();
  const state = JSON.parse(JSON.stringify(client.device.save()));
  rmSync(client.at("goes"));
  const device = new P9Device({ folder: client.root, tag: "work" }, state);
  const guest = new TestGuest(device, { saved: client.guest.transport.save(), from: client.guest });
  guest.transport.resume();
  const ask = async (fid: number) => {
    const request = new FieldWriter().u32(fid).u64(0).u32(100).finish(Message.READ, 1);
    const room = guest.room(100);
    const length = await guest.request(0, [guest.give(request), room]);
    return new TextDecoder().decode(guest.bytes(room).subarray(HEADER_LENGTH + 4, length));
  };
  assert.equal(await ask(1), "here");
  assert.equal(await ask(2), "", "an error has no data");
  await guest.transport.close();
  device.close();
  const broken = { ...state, fids: [{ ...state.fids[0], names: [7] }] };
  assert.throws(
    () => new P9Device({ folder: client.root, tag: "t" }, broken),
    /virtio-9p: fids\.0\.names\.0 is 7, not/,
  );
});

test("impossible settings are refused", () => {
  assert.throws(() => new P9Device({ folder: "/none", tag: "t" }), /folder \/none cannot be shared: .*ENOENT/);
  assert.throws(() => new P9Device({ folder: "/", tag: "" }), /the tag "" has not/);
});
