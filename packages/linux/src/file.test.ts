import assert from "node:assert/strict";
import { closeSync, mkdtempDisposableSync, openSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { CLOSED, openDescriptors, refused } from "../testing/refusal.ts";
import { Errno } from "./errors.ts";
import {
  AllocateFlag,
  close,
  Descriptor,
  fallocate,
  ftruncate,
  IoVector,
  OpenFlag,
  open,
  pread,
  preadv,
  pwrite,
  pwritev,
  read,
  Seek,
  seekExtent,
  TransferFlag,
  tryPreadv2,
  tryPwritev2,
  write,
  writeNumber64,
} from "./file.ts";
import { addressOf } from "./memory.ts";

const folder = () => mkdtempDisposableSync(join(tmpdir(), "lodge-file-"));

test("open makes a file with its mode, read and write move its position", () => {
  using dir = folder();
  const path = join(dir.path, "made");
  const memory = Buffer.from("lodge keeps");
  const before = openDescriptors();
  const fd = open(path, OpenFlag.RDWR | OpenFlag.CREAT | OpenFlag.EXCL, 0o640);
  assert.equal(statSync(path).mode & 0o777, 0o640 & ~process.umask());
  assert.equal(write(fd, addressOf(memory), 5), 5);
  assert.equal(write(fd, addressOf(memory) + 5, 6), 6);
  assert.equal(readFileSync(path, "utf8"), "lodge keeps");
  close(fd);
  refused(() => open(path, OpenFlag.RDWR | OpenFlag.CREAT | OpenFlag.EXCL), "EEXIST", "open", path);

  const again = open(path, OpenFlag.RDONLY);
  const into = Buffer.alloc(16);
  assert.equal(read(again, addressOf(into) + 1, 5), 5);
  assert.equal(into.toString("latin1", 0, 7), "\0lodge\0");
  assert.equal(read(again, addressOf(into), 16), 6);
  assert.equal(read(again, addressOf(into), 16), 0, "0 at the end");
  close(again);
  assert.equal(openDescriptors(), before);

  close(open(path, OpenFlag.WRONLY | OpenFlag.TRUNC));
  assert.equal(statSync(path).size, 0);
});

test("opened files are close-on-exec", () => {
  const fd = open("/dev/null", OpenFlag.RDONLY);
  const flags = /flags:\s+([0-7]+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))![1]!;
  assert.ok(Number.parseInt(flags, 8) & OpenFlag.CLOEXEC);
  close(fd);
});

test("a path is not cut: not at a NUL, and not where the kernel's are too long", () => {
  refused(() => open(`/${"x/".repeat(2048)}`, OpenFlag.RDONLY), "ENAMETOOLONG", "open", `/${"x/".repeat(31)}x…`);
  refused(() => open("/dev/null\0.img", OpenFlag.RDONLY), "EINVAL", "open", '"/dev/null\\u0000.img"');
});

test("pread and pwrite reach offsets past 4 GiB", () => {
  using dir = folder();
  const path = join(dir.path, "sparse");
  const fd = openSync(path, "w+");
  const far = 5 * 2 ** 30 + 3;
  const memory = Buffer.from("here");
  assert.equal(pwrite(fd, addressOf(memory), 4, far), 4);
  assert.equal(statSync(path).size, far + 4);
  const into = Buffer.alloc(6);
  assert.equal(pread(fd, addressOf(into), 6, far - 2), 6);
  assert.equal(into.toString("latin1"), "\0\0here");
  assert.equal(pread(fd, addressOf(into), 6, far + 4), 0);
  closeSync(fd);
});

test("preadv and pwritev gather and scatter in order", () => {
  using dir = folder();
  const path = join(dir.path, "vector");
  writeFileSync(path, "0123456789");
  const fd = openSync(path, "r+");
  const memory = Buffer.alloc(64);
  const vector = new IoVector(3);
  assert.equal(preadv(fd, vector, 0), 0, "no pieces, no bytes");
  vector.push(addressOf(memory) + 32, 4);
  vector.push(addressOf(memory), 2);
  vector.push(addressOf(memory) + 16, 8);
  assert.equal(vector.bytes, 14);
  assert.equal(preadv(fd, vector, 1), 9, "short at the end of the file");
  assert.equal(memory.toString("latin1", 32, 36), "1234");
  assert.equal(memory.toString("latin1", 0, 3), "56\0");
  assert.equal(memory.toString("latin1", 16, 20), "789\0");

  vector.clear();
  assert.deepEqual([vector.count, vector.bytes], [0, 0]);
  vector.push(addressOf(memory), 2);
  vector.push(addressOf(memory) + 32, 4);
  assert.equal(pwritev(fd, vector, 4), 6);
  assert.equal(readFileSync(path, "utf8"), "0123561234");
  closeSync(fd);
});

test("each refusal names its call and its argument", () => {
  refused(() => open("/no/such", OpenFlag.RDONLY), "ENOENT", "open", "/no/such");
  refused(() => open("/", OpenFlag.WRONLY), "EISDIR", "open", "/");
  refused(() => close(CLOSED), "EBADF", "close", `fd ${CLOSED}`);
  refused(() => read(CLOSED, 0, 1), "EBADF", "read", `fd ${CLOSED}`);
  refused(() => write(CLOSED, 0, 1), "EBADF", "write", `fd ${CLOSED}`);
  refused(() => pread(CLOSED, 0, 1, 0), "EBADF", "pread", `fd ${CLOSED} at 0x0`);
  refused(() => pwrite(CLOSED, 0, 1, 4096), "EBADF", "pwrite", `fd ${CLOSED} at 0x1000`);
  refused(() => preadv(CLOSED, new IoVector(1), 255), "EBADF", "preadv", `fd ${CLOSED} at 0xff`);
  refused(() => pwritev(CLOSED, new IoVector(1), 0), "EBADF", "pwritev", `fd ${CLOSED} at 0x0`);
  const fd = openSync("/dev/zero", "r");
  refused(() => read(fd, 0, 1), "EFAULT", "read", `fd ${fd}`);
  closeSync(fd);
});

test("a full IoVector refuses another piece and keeps what it has", () => {
  const vector = new IoVector(1);
  vector.push(4096, 1);
  assert.throws(() => vector.push(8192, 1), { name: "RangeError", message: "IoVector holds 1 pieces and is full" });
  assert.deepEqual([vector.count, vector.bytes], [1, 1]);
});

test("tryPreadv2 and tryPwritev2 transfer without waiting, or say why not", () => {
  using dir = folder();
  const path = join(dir.path, "vectors");
  writeFileSync(path, "0123456789");
  using file = new Descriptor(open(path, OpenFlag.RDWR));
  const memory = Buffer.from("abcdef");
  const vector = new IoVector(2);
  vector.push(addressOf(memory), 2);
  vector.push(addressOf(memory) + 4, 2);
  assert.equal(tryPwritev2(file.fd, vector, 3, 0), 4);
  assert.equal(readFileSync(path, "utf8"), "012abef789");
  // Just written, so it is there to be read; whether the file system can do it at all is its own matter.
  const read = tryPreadv2(file.fd, vector, 1, TransferFlag.NOWAIT);
  assert.ok([4, -Errno.EAGAIN, -Errno.ENOTSUP].includes(read), `${read}`);
  if (read === 4) assert.equal(memory.toString(), "12cdab");
  assert.equal(tryPreadv2(CLOSED, vector, 0, TransferFlag.NOWAIT), -Errno.EBADF);
  assert.equal(tryPwritev2(file.fd, vector, -2, 0), -Errno.EINVAL);
});

test("fallocate makes room, holes and zeros", () => {
  using dir = folder();
  const path = join(dir.path, "sparse");
  writeFileSync(path, Buffer.alloc(65536, 1));
  using file = new Descriptor(open(path, OpenFlag.RDWR));
  try {
    fallocate(file.fd, AllocateFlag.PUNCH_HOLE | AllocateFlag.KEEP_SIZE, 4096, 8192);
  } catch (error) {
    // A file system that has no holes says so.
    assert.equal((error as { errno?: number }).errno, Errno.ENOTSUP);
    return;
  }
  const holed = Buffer.alloc(65536, 1).fill(0, 4096, 12288);
  assert.deepEqual(readFileSync(path), holed);
  fallocate(file.fd, 0, 65536, 4096);
  assert.equal(statSync(path).size, 69632);
  refused(() => fallocate(file.fd, 0, 0, 0), "EINVAL", "fallocate", `fd ${file.fd} at 0x0, 0 bytes`);
});

test("seekExtent finds data and holes, ftruncate makes a hole at the end", () => {
  using dir = folder();
  const path = join(dir.path, "sparse");
  writeFileSync(path, Buffer.alloc(65536, 1));
  using file = new Descriptor(open(path, OpenFlag.RDWR));
  ftruncate(file.fd, 1 << 20);
  assert.equal(statSync(path).size, 1 << 20);
  assert.equal(seekExtent(file.fd, 4096, Seek.DATA), 4096);
  const hole = seekExtent(file.fd, 0, Seek.HOLE)!;
  assert.ok(hole >= 65536 && hole <= 1 << 20, "a file system without holes says that the end is one");
  assert.equal(seekExtent(file.fd, 1 << 20, Seek.DATA), undefined);
  refused(() => seekExtent(CLOSED, 0, Seek.DATA), "EBADF", "lseek", `fd ${CLOSED} at 0x0`);
  refused(() => ftruncate(file.fd, -1), "EINVAL", "ftruncate", `fd ${file.fd} to -1 bytes`);
});

test("a Descriptor closes once, though its number was given out again", () => {
  const owner = new Descriptor(open("/dev/null", OpenFlag.RDONLY));
  owner.close();
  const successor = open("/dev/zero", OpenFlag.RDONLY);
  assert.equal(successor, owner.fd);
  owner.close();
  owner[Symbol.dispose]();
  close(successor);
});

/** A repeatable stream of numbers in [0, 1): mulberry32. */
function* seeded(seed: number): Generator<number, never> {
  for (let a = seed; ; ) {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), a | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    yield ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }
}

test("writeNumber64 writes what setBigUint64 writes", () => {
  const random = seeded(2026);
  const ours = new DataView(new ArrayBuffer(16));
  const oracle = new DataView(new ArrayBuffer(16));
  const edges = [0, 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 1, 2 ** 47 - 4096, Number.MAX_SAFE_INTEGER];
  for (let round = 0; round < 2000; round++) {
    const value = edges[round] ?? Math.floor(random.next().value * 2 ** Math.ceil(random.next().value * 53));
    const offset = Math.floor(random.next().value * 9);
    writeNumber64(ours, offset, value);
    oracle.setBigUint64(offset, BigInt(value), true);
    assert.deepEqual(ours, oracle, `${value} at ${offset}`);
  }
});

test("an IoVector holds the pieces as struct iovec", () => {
  const random = seeded(7);
  for (let round = 0; round < 200; round++) {
    const vector = new IoVector(8);
    const oracle = new BigUint64Array(16);
    const count = Math.floor(random.next().value * 9);
    for (let index = 0; index < count; index++) {
      const address = Math.floor(random.next().value * 2 ** 47);
      const length = Math.floor(random.next().value * 2 ** 40);
      vector.push(address, length);
      oracle.set([BigInt(address), BigInt(length)], index * 2);
    }
    assert.equal(vector.count, count);
    assert.deepEqual(new BigUint64Array(vector.pieces), oracle);
    const lengths = oracle.filter((_, index) => index % 2 === 1);
    assert.equal(
      BigInt(vector.bytes),
      lengths.reduce((sum, length) => sum + length, 0n),
    );
  }
});
