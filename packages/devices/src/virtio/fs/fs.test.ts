/** The shared folder by FUSE, worked by requests as Linux sends them. What its driver makes of it is tested in a guest. */

import assert from "node:assert/strict";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempDisposableSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Errno } from "../shared-folder/refusal.ts";
import { RING_KINDS, TestGuest } from "../testing/guest.ts";
import { FsDevice } from "./fs.ts";
import { Header, Opcode, REPLY_BYTES, ROOT, SetAttr, Valid } from "./layout.ts";

/** Little-endian fields: numbers are u32, bigints u64, strings end with a NUL. */
type Field = number | bigint | string | Uint8Array;

function encode(fields: readonly Field[]): Buffer {
  return Buffer.concat(
    fields.map((field) => {
      if (typeof field === "string") return Buffer.from(`${field}\0`, "latin1");
      if (typeof field === "object") return Buffer.from(field);
      const bytes = Buffer.alloc(typeof field === "number" ? 4 : 8);
      if (typeof field === "number") bytes.writeUInt32LE(field);
      else bytes.writeBigUInt64LE(field);
      return bytes;
    }),
  );
}

/** A client with its guest. `folder` holds `share/` and, beside it, `secret`. */
class Client implements AsyncDisposable {
  readonly device: FsDevice;
  readonly guest: TestGuest;
  readonly #folder: { path: string; remove(): void };
  #unique = 0n;

  constructor({ readOnly = false, features = -1n } = {}) {
    this.#folder = mkdtempDisposableSync(join(tmpdir(), "lodge-fs-"));
    mkdirSync(this.at());
    writeFileSync(this.outside("secret"), "the host's own");
    this.device = new FsDevice({ folder: this.at(), tag: "work", readOnly });
    this.guest = new TestGuest(this.device, { features, memoryBytes: 4 << 20 }).start();
  }

  at(...names: string[]): string {
    return join(this.#folder.path, "share", ...names);
  }
  outside(name: string): string {
    return join(this.#folder.path, name);
  }

  /** The answer's body, or the errno that it was refused with. */
  async try(
    opcode: number,
    node: number | bigint,
    fields: readonly Field[],
    room = 8192,
    cut = 0,
  ): Promise<Buffer | number> {
    const body = encode(fields);
    const unique = this.#unique++;
    const header = encode([Header.BYTES + body.length, opcode, unique, BigInt(node), 0, 0, 77, 0]);
    const request = Buffer.concat([header, body]);
    const answer = this.guest.room(REPLY_BYTES + room);
    const buffers = [this.guest.give(request.subarray(0, request.length - cut)), answer];
    const length = await this.guest.request(1, buffers, true);
    const bytes = Buffer.from(this.guest.bytes(answer).subarray(0, length));
    assert.equal(bytes.readUInt32LE(0), length);
    assert.equal(bytes.readBigUInt64LE(8), unique);
    const error = bytes.readInt32LE(4);
    return error === 0 ? bytes.subarray(REPLY_BYTES) : -error;
  }

  async do(opcode: number, node: number | bigint, ...fields: Field[]): Promise<Buffer> {
    const answer = await this.try(opcode, node, fields);
    if (typeof answer === "number") assert.fail(`request ${opcode} was refused with errno ${answer}`);
    return answer;
  }

  async refused(errno: number, opcode: number, node: number | bigint, ...fields: Field[]): Promise<void> {
    assert.equal(await this.try(opcode, node, fields), errno, `request ${opcode} ${fields}`);
  }

  /** A node, by names from the root. */
  async find(...names: string[]): Promise<bigint> {
    let node = BigInt(ROOT);
    for (const name of names) node = (await this.do(Opcode.LOOKUP, node, name)).readBigUInt64LE(0);
    return node;
  }

  async open(node: bigint, flags = 0, opcode: number = Opcode.OPEN): Promise<bigint> {
    return (await this.do(opcode, node, flags, 0)).readBigUInt64LE(0);
  }

  read(handle: bigint, offset: number, count: number): Promise<Buffer> {
    return this.do(Opcode.READ, 0, handle, BigInt(offset), count, 0, 0n, 0, 0);
  }

  async write(handle: bigint, offset: number, text: string): Promise<number> {
    const data = Buffer.from(text);
    return (await this.do(Opcode.WRITE, 0, handle, BigInt(offset), data.length, 0, 0n, 0, 0, data)).readUInt32LE(0);
  }

  async list(node: bigint, room = 256): Promise<string[]> {
    const handle = await this.open(node, 0, Opcode.OPENDIR);
    const names: string[] = [];
    for (let offset = 0n; ; ) {
      const bytes = await this.do(Opcode.READDIR, node, handle, offset, room, 0, 0n, 0, 0);
      if (bytes.length === 0) break;
      for (let at = 0; at < bytes.length; ) {
        offset = bytes.readBigUInt64LE(at + 8);
        const length = bytes.readUInt32LE(at + 16);
        names.push(bytes.toString("utf8", at + 24, at + 24 + length));
        at += Math.ceil((24 + length) / 8) * 8;
      }
    }
    await this.do(Opcode.RELEASEDIR, node, handle, 0, 0, 0n);
    return names.toSorted();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.guest.transport.close();
    this.device.close();
    this.#folder.remove();
  }
}

const openFiles = () => readdirSync("/proc/self/fd").length;

for (const { name: kind, features } of RING_KINDS) {
  test(`${kind}: files are looked up, read, written, made and listed`, async () => {
    await using client = new Client({ features });
    const version = await client.do(Opcode.INIT, 0, 7, 37, 131072, 0xffffffff);
    assert.deepEqual([version.readUInt32LE(0), version.readUInt32LE(4)], [7, 31]);
    writeFileSync(client.at("file"), "from the host");
    const file = await client.find("file");
    assert.equal(await client.find("file"), file, "the same file is the same node");
    const handle = await client.open(file, 2);
    assert.equal(String(await client.read(handle, 5, 100)), "the host");
    assert.equal(await client.write(handle, 0, "back"), 4);
    await client.do(Opcode.FSYNC, file, handle, 0, 0);
    assert.equal(readFileSync(client.at("file"), "utf8"), "back the host");
    const attributes = await client.do(Opcode.GETATTR, file, 0, 0, 0n);
    assert.equal(attributes.readBigUInt64LE(16 + 8), 13n);

    const folder = (await client.do(Opcode.MKDIR, ROOT, 0o750, 0, "new")).readBigUInt64LE(0);
    const made = await client.do(Opcode.CREATE, folder, 1 | 0o100, 0o640, 0, 0, "inner");
    assert.equal(await client.write(made.readBigUInt64LE(128), 0, "content"), 7);
    assert.equal(readFileSync(client.at("new/inner"), "utf8"), "content");
    assert.equal(statSync(client.at("new/inner")).mode & 0o7777, 0o640);
    await client.do(Opcode.SYMLINK, folder, "link", "../../secret");
    assert.equal(readlinkSync(client.at("new/link")), "../../secret");
    const link = await client.find("new", "link");
    assert.equal(String(await client.do(Opcode.READLINK, link)), "../../secret");
    await client.do(Opcode.LINK, folder, await client.find("new", "inner"), "second");
    await client.do(Opcode.RENAME2, folder, BigInt(ROOT), 0, 0, "second", "moved");
    assert.deepEqual(await client.list(folder, 64), [".", "..", "inner", "link"]);
    assert.equal(lstatSync(client.at("moved")).nlink, 2);
    await client.do(Opcode.UNLINK, ROOT, "moved");
    await client.refused(39, Opcode.RMDIR, ROOT, "new");
    assert.equal(existsSync(client.at("moved")), false);
    const space = await client.do(Opcode.STATFS, ROOT);
    assert.ok(space.readBigUInt64LE(0) > 0n && space.readUInt32LE(44) === 255);
  });
}

test("attributes are set: size, mode, times", async () => {
  await using client = new Client();
  writeFileSync(client.at("file"), "0123456789");
  const file = await client.find("file");
  const fields = Buffer.alloc(SetAttr.BYTES);
  fields.writeUInt32LE(Valid.SIZE | Valid.MODE | Valid.MTIME, SetAttr.VALID);
  fields.writeBigUInt64LE(4n, SetAttr.SIZE);
  fields.writeUInt32LE(0o4711, SetAttr.MODE);
  fields.writeBigUInt64LE(1_000_000_000n, SetAttr.MTIME);
  await client.do(Opcode.SETATTR, file, fields);
  const { size, mode, mtimeMs } = statSync(client.at("file"));
  // No set-user-ID programs appear on the host.
  assert.deepEqual([size, mode & 0o7777, mtimeMs], [4, 0o711, 1e12]);
});

test("there is no way out: neither by names nor by links, whatever is renamed meanwhile", async () => {
  await using client = new Client();
  for (const name of ["..", ".", "", "a/b", "/etc"])
    assert.equal(typeof (await client.try(Opcode.LOOKUP, ROOT, [name])), "number", name);
  symlinkSync("../secret", client.at("leak"));
  symlinkSync("..", client.at("up"));
  mkdirSync(client.at("folder"));
  await client.refused(Errno.EPERM, Opcode.OPEN, await client.find("leak"), 0, 0);
  await client.refused(Errno.ENOTDIR, Opcode.LOOKUP, await client.find("up"), "secret");
  // A folder in the guest's hand becomes a link on the host: the guest still has the folder.
  const folder = await client.find("folder");
  renameSync(client.at("folder"), client.at("old"));
  symlinkSync("..", client.at("folder"));
  await client.refused(Errno.ENOENT, Opcode.LOOKUP, folder, "secret");
  await client.do(Opcode.CREATE, folder, 1 | 0o100, 0o600, 0, 0, "mine");
  assert.ok(existsSync(client.at("old/mine")));
  assert.equal(readFileSync(client.outside("secret"), "utf8"), "the host's own");
  const inode = await client.do(
    Opcode.READDIR,
    ROOT,
    await client.open(BigInt(ROOT), 0, Opcode.OPENDIR),
    0n,
    4096,
    0,
    0n,
    0,
    0,
  );
  assert.equal(inode.includes(Buffer.from("leak")), true);
  // Devices and pipes would be the host's.
  await client.refused(Errno.EPERM, Opcode.MKNOD, ROOT, 0o020600, 0x103, 0, 0, "device");
});

test("a read-only share is only read", async () => {
  await using client = new Client({ readOnly: true });
  writeFileSync(client.at("file"), "fixed");
  const file = await client.find("file");
  assert.equal(String(await client.read(await client.open(file), 0, 10)), "fixed");
  const data = Buffer.from("x");
  for (const [opcode, node, ...fields] of [
    [Opcode.OPEN, file, 1, 0],
    [Opcode.OPEN, file, 0o1000, 0],
    [Opcode.CREATE, ROOT, 1 | 0o100, 0o600, 0, 0, "new"],
    [Opcode.MKNOD, ROOT, 0o100600, 0, 0, 0, "new"],
    [Opcode.MKDIR, ROOT, 0o700, 0, "new"],
    [Opcode.SYMLINK, ROOT, "new", "file"],
    [Opcode.LINK, ROOT, file, "new"],
    [Opcode.RENAME, ROOT, BigInt(ROOT), "file", "new"],
    [Opcode.UNLINK, ROOT, "file"],
    [Opcode.RMDIR, ROOT, "file"],
    [Opcode.SETATTR, file, Buffer.alloc(SetAttr.BYTES)],
    [Opcode.WRITE, file, await client.open(file), 0n, 1, 0, 0n, 0, 0, data],
  ] as const) {
    await client.refused(Errno.EROFS, opcode, node, ...fields);
  }
  assert.deepEqual(readdirSync(client.at()), ["file"]);
});

test("nodes are kept as often as they were looked up; forgotten and closed, nothing is left open", async () => {
  await using client = new Client();
  for (const name of ["a", "b", "c"]) writeFileSync(client.at(name), name);
  await client.find("a");
  const before = openFiles();
  const node = await client.find("b");
  await client.find("b");
  const handle = await client.open(await client.find("c"));
  assert.equal(openFiles(), before + 3);
  // A forget has no answer, so it goes without room for one.
  const forget = async (opcode: number, at: bigint, fields: Field[]) => {
    const body = encode(fields);
    const header = encode([Header.BYTES + body.length, opcode, 0n, at, 0, 0, 0, 0]);
    assert.equal(await client.guest.request(0, [client.guest.give(Buffer.concat([header, body]))], true), 0);
  };
  await forget(Opcode.FORGET, node, [1n]);
  await client.do(Opcode.GETATTR, node, 0, 0, 0n);
  await forget(Opcode.BATCH_FORGET, 0n, [2, 0, node, 1n, 999n, 5n]);
  await client.refused(Errno.ESTALE, Opcode.GETATTR, node, 0, 0, 0n);
  await client.do(Opcode.RELEASE, 0, handle, 0, 0, 0n);
  await client.refused(Errno.EBADF, Opcode.RELEASE, 0, handle, 0, 0, 0n);
  assert.equal(openFiles(), before + 1);
  await client.guest.transport.close();
  assert.equal(openFiles(), before - 2, "without a's node and the root's");
});

test("requests that end too early, or want what is not there, are refused", async () => {
  await using client = new Client();
  assert.equal(await client.try(Opcode.LOOKUP, ROOT, ["name"], 8192, 1), Errno.EINVAL);
  assert.equal(await client.try(Opcode.LOOKUP, ROOT, []), Errno.EINVAL);
  assert.equal(await client.try(Opcode.RENAME, ROOT, [BigInt(ROOT), "one"]), Errno.EINVAL);
  assert.equal(await client.try(Opcode.BATCH_FORGET, 0, [0xffffffff, 0]), Errno.EINVAL);
  assert.equal(await client.try(Opcode.READ, 0, [1n]), Errno.EINVAL);
  assert.equal(await client.try(Opcode.WRITE, 0, [1n, 0n, 0xffffffff, 0, 0n, 0, 0]), Errno.EBADF);
  assert.equal(await client.try(Opcode.GETATTR, 12345, [0, 0, 0n]), Errno.ESTALE);
  assert.equal(await client.try(22, ROOT, [0, 0, "user.x"]), Errno.ENOSYS);
  assert.equal(await client.try(Opcode.RENAME2, ROOT, [BigInt(ROOT), 2, 0, "a", "b"]), Errno.EINVAL);
  // An answer that there is no room for.
  assert.equal(await client.try(Opcode.STATFS, ROOT, [], 8), Errno.EINVAL);
  assert.throws(() => new FsDevice({ folder: client.at(), tag: "x".repeat(37) }), { code: "DEVICE_CONFIGURATION" });
  assert.throws(() => new FsDevice({ folder: client.at("none"), tag: "x" }), { message: /none cannot be shared/ });
});
