import assert from "node:assert/strict";
import { closeSync, ftruncateSync, readFileSync, writeSync } from "node:fs";
import { test } from "node:test";
import { refused } from "../testing/refusal.ts";
import { hex } from "./errors.ts";
import { OpenFlag, open, read } from "./file.ts";
import {
  Advice,
  addressOf,
  addSeals,
  MapFlag,
  Mapping,
  MemfdFlag,
  madvise,
  memfdCreate,
  mmap,
  mprotect,
  munmap,
  Protection,
  Seal,
  viewMemory,
} from "./memory.ts";

const PAGE = 4096;
const READ_WRITE = Protection.READ | Protection.WRITE;
const ANONYMOUS = { protection: READ_WRITE, flags: MapFlag.PRIVATE | MapFlag.ANONYMOUS };

/** The line of /proc/self/maps that holds an address. */
function mapOf(address: number): string | undefined {
  return readFileSync("/proc/self/maps", "utf8")
    .split("\n")
    .find((line) => {
      const [start, end] = line
        .split(" ", 1)[0]!
        .split("-")
        .map((text) => Number.parseInt(text, 16));
      return start! <= address && address < end!;
    });
}

test("a memfd lies over a piece of a shared WebAssembly memory, and both see each other's writes", () => {
  const memory = new WebAssembly.Memory({ initial: 2, maximum: 2, shared: true });
  const bytes = new Uint8Array(memory.buffer);
  const fd = memfdCreate("lodge-test");
  ftruncateSync(fd, 2 * PAGE);
  writeSync(fd, "from the file", PAGE);

  const base = addressOf(memory.buffer);
  assert.equal(base % PAGE, 0);
  const address = mmap({
    address: base + 3 * PAGE,
    length: PAGE,
    protection: READ_WRITE,
    flags: MapFlag.SHARED | MapFlag.FIXED,
    fd,
    offset: PAGE,
  });
  assert.equal(address, base + 3 * PAGE);
  assert.match(mapOf(address)!, /rw-s 00001000 .*memfd:lodge-test/);
  assert.equal(Buffer.from(bytes.slice(3 * PAGE, 3 * PAGE + 13)).toString(), "from the file");

  bytes[3 * PAGE] = 0x46;
  using other = new Mapping({ length: 2 * PAGE, protection: Protection.READ, flags: MapFlag.SHARED, fd });
  assert.equal(Buffer.from(other.buffer, PAGE, 13).toString(), "From the file");
  assert.equal(bytes[3 * PAGE - 1], 0);
  assert.equal(bytes[4 * PAGE], 0);
  closeSync(fd);
});

test("closing a Mapping detaches its buffer and unmaps, once", () => {
  const mapping = new Mapping({ length: 3 * PAGE, ...ANONYMOUS });
  const { buffer, address } = mapping;
  assert.equal(buffer.byteLength, 3 * PAGE);
  assert.equal(addressOf(buffer), address);
  const view = new DataView(buffer);
  view.setUint32(2 * PAGE, 0x1234);
  assert.ok(mapOf(address));

  mapping.close();
  assert.ok(buffer.detached);
  assert.throws(() => view.getUint32(0), TypeError);
  assert.equal(mapOf(address), undefined);
  const successor = mmap({ length: PAGE, ...ANONYMOUS, address, flags: ANONYMOUS.flags | MapFlag.FIXED });
  mapping.close();
  mapping[Symbol.dispose]();
  assert.ok(mapOf(successor), "a second close does not unmap what came after");
  munmap(successor, PAGE);
});

test("maps of 8 GiB are addressed to their end", () => {
  const length = 8 * 2 ** 30;
  using mapping = new Mapping({ length, ...ANONYMOUS, flags: ANONYMOUS.flags | MapFlag.NORESERVE });
  const view = new DataView(mapping.buffer);
  view.setUint32(length - 4, 0xfeedface);
  assert.equal(view.getUint32(length - 4), 0xfeedface);
  assert.equal(view.byteLength, length);
});

test("viewMemory sees memory without a copy", () => {
  const bytes = new Uint8Array(PAGE);
  const view = new Uint8Array(viewMemory(addressOf(bytes) + 16, 32));
  bytes[17] = 9;
  assert.equal(view[1], 9);
  view[2] = 7;
  assert.equal(bytes[18], 7);
});

test("addressOf counts a view's offset, and small arrays do not move after it", () => {
  const buffer = new ArrayBuffer(64);
  assert.equal(addressOf(new Uint8Array(buffer, 24, 8)), addressOf(buffer) + 24);
  // V8 keeps small typed arrays inside the moving heap until their address is asked for.
  const small = new Uint8Array(8);
  const address = addressOf(small);
  const fd = open("/dev/urandom", OpenFlag.RDONLY);
  read(fd, address, 8);
  closeSync(fd);
  const copy = new Uint8Array(viewMemory(address, 8)).slice();
  assert.deepEqual(small, copy);
  assert.equal(addressOf(small), address);
});

test("madvise DONTNEED empties private memory", () => {
  using mapping = new Mapping({ length: 2 * PAGE, ...ANONYMOUS });
  const bytes = new Uint8Array(mapping.buffer).fill(1);
  madvise(mapping.address + PAGE, PAGE, Advice.DONTNEED);
  assert.equal(bytes[PAGE - 1], 1);
  assert.equal(bytes[PAGE], 0);
});

test("mprotect is what the kernel then says", () => {
  using mapping = new Mapping({ length: PAGE, ...ANONYMOUS });
  mprotect(mapping.address, PAGE, Protection.READ);
  assert.match(mapOf(mapping.address)!, / r--p /);
  // A store through the view would end the process; the kernel's own store is refused instead.
  const fd = open("/dev/zero", OpenFlag.RDONLY);
  refused(() => read(fd, mapping.address, 1), "EFAULT", "read", `fd ${fd}`);
  mprotect(mapping.address, PAGE, READ_WRITE);
  assert.equal(read(fd, mapping.address, 1), 1);
  closeSync(fd);
});

test("memfds are close-on-exec unless told otherwise", () => {
  const octal = (fd: number) =>
    Number.parseInt(/flags:\s+([0-7]+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))![1]!, 8);
  const closing = memfdCreate("a");
  const kept = memfdCreate("b", MemfdFlag.ALLOW_SEALING);
  assert.ok(octal(closing) & OpenFlag.CLOEXEC);
  assert.ok(!(octal(kept) & OpenFlag.CLOEXEC));
  closeSync(closing);
  closeSync(kept);
});

test("a sealed file in memory keeps its size, and whoever made it without seals is refused", () => {
  const fd = memfdCreate("sealed", MemfdFlag.CLOEXEC | MemfdFlag.ALLOW_SEALING);
  ftruncateSync(fd, PAGE);
  addSeals(fd, Seal.SHRINK | Seal.GROW | Seal.SEAL);
  for (const length of [0, 2 * PAGE]) assert.throws(() => ftruncateSync(fd, length), { code: "EPERM" });
  refused(() => addSeals(fd, Seal.WRITE), "EPERM", "fcntl", `fd ${fd}, seals 0x8`);
  closeSync(fd);
});

test("each refusal names its call and its argument", () => {
  refused(() => mmap({ length: 0, ...ANONYMOUS }), "EINVAL", "mmap", "0x0 bytes");
  refused(() => mmap({ length: PAGE, ...ANONYMOUS, offset: 1 }), "EINVAL", "mmap", "0x1000 bytes");
  const file = { length: PAGE, protection: READ_WRITE, flags: MapFlag.SHARED, fd: 1_000_000 };
  refused(() => new Mapping(file), "EBADF", "mmap", "fd 1000000, 0x1000 bytes");
  using mapping = new Mapping({ length: PAGE, ...ANONYMOUS });
  const { address } = mapping;
  const taken = { length: PAGE, ...ANONYMOUS, address, flags: ANONYMOUS.flags | MapFlag.FIXED_NOREPLACE };
  refused(() => mmap(taken), "EEXIST", "mmap", "0x1000 bytes");
  refused(() => munmap(1, PAGE), "EINVAL", "munmap", "0x1-0x1001");
  refused(() => munmap(address, 0), "EINVAL", "munmap", `${hex(address)}-${hex(address)}`);
  const range = `${hex(address)}-${hex(address + PAGE)}`;
  refused(() => madvise(address, PAGE, 999), "EINVAL", "madvise", `${range}, advice 999`);
  refused(() => mprotect(0, PAGE, Protection.READ), "ENOMEM", "mprotect", "0x0-0x1000");
  refused(() => memfdCreate("x".repeat(300)), "EINVAL", "memfd_create", "x".repeat(300));
});
