import assert from "node:assert/strict";
import {
  chmodSync,
  mkdtempDisposableSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { type MemoryBacking, Pc } from "@lodge/machine";
import { BootFile } from "../boot-files.ts";
import { KernelCache } from "./unpacked-kernels.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

function kept(cache: KernelCache, name: string): string | undefined {
  using source = cache.get(name);
  if (source === undefined) return undefined;
  const content = Buffer.alloc(source.sizeBytes);
  source.read(content, 0);
  return content.toString();
}

test("what was unpacked once is there for the next machine; the last four that were used stay", () => {
  using directory = mkdtempDisposableSync(join(tmpdir(), "lodge-kernels-"));
  const folder = join(directory.path, "kernels");
  const cache = new KernelCache(folder);
  assert.equal(cache.get("one"), undefined);
  for (const [index, name] of ["one", "two", "three", "four"].entries()) {
    cache.keep(name, bytes(`${name} unpacked`));
    utimesSync(join(folder, name), index + 1, index + 1);
  }
  assert.equal(kept(new KernelCache(folder), "one"), "one unpacked");
  cache.keep("five", bytes("five unpacked"));
  const there = ["one", "two", "three", "four", "five"].filter((name) => kept(cache, name) !== undefined);
  assert.deepEqual(there, ["one", "three", "four", "five"], "two was not used for longest");
});

test("what a process left that ended while it wrote goes; a folder that cannot be made is done without", () => {
  using directory = mkdtempDisposableSync(join(tmpdir(), "lodge-kernels-"));
  const folder = join(directory.path, "kernels");
  const cache = new KernelCache(folder);
  cache.keep("one", bytes("1"));
  // No process has this number: Linux has 2^22 of them at most.
  writeFileSync(join(folder, "unfinished.99999999"), "half");
  writeFileSync(join(folder, `unfinished.${process.ppid}`), "half of another's");
  cache.keep("two", bytes("2"));
  const left = readdirSync(folder).filter((name) => name.startsWith("unfinished."));
  assert.deepEqual(left, [`unfinished.${process.ppid}`]);

  const file = join(directory.path, "file");
  writeFileSync(file, "");
  chmodSync(file, 0o400);
  const none = new KernelCache(join(file, "kernels"));
  none.keep("one", bytes("1"));
  assert.equal(none.get("one"), undefined);
});

const PAGE = 4096;
/** As far behind a page as the code is in its file. */
const START = 0x100000 + 64 + 56;
const DEBUG_CONSOLE = 0xe9;
const DEBUG_EXIT = 0xf4;

/** The file has holes for these. */
const ZEROS = 32 * PAGE;

/** A kernel of some pages, and zeros, that writes "W" behind its third one's start and then tells all of itself. */
function selfTelling(): Uint8Array {
  const words = (value: number) => [...new Uint8Array(Uint32Array.of(value).buffer)];
  const body = new Uint8Array(5 * PAGE + ZEROS + PAGE);
  const pattern = (length: number) => Uint8Array.from({ length }, (_, at) => (at * 7 + (at >> 8)) & 0xff);
  body.set(pattern(5 * PAGE));
  body.set(pattern(PAGE), 5 * PAGE + ZEROS);
  body.set([
    // mov byte ptr [START + 3 * PAGE], "W"
    ...[0xc6, 0x04, 0x25, ...words(START + 3 * PAGE), 0x57],
    // mov esi, START; mov ecx, length; mov dx, console; again: lodsb; out dx, al; loop again
    ...[0xbe, ...words(START), 0xb9, ...words(body.length), 0x66, 0xba, DEBUG_CONSOLE, 0, 0xac, 0xee, 0xe2, 0xfc],
    // mov al, 0; mov dx, exit; out dx, al
    ...[0xb0, 0, 0x66, 0xba, DEBUG_EXIT, 0, 0xee, 0xf4],
  ]);
  return body;
}

/** An x86-64 ELF file of one segment, which is entered where it is loaded. */
function elf(code: Uint8Array, address: number): Buffer {
  const file = Buffer.alloc(64 + 56 + code.length);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  file.writeUInt16LE(62, 18);
  file.writeBigUInt64LE(BigInt(address), 24);
  file.writeBigUInt64LE(64n, 32);
  file.writeUInt16LE(56, 54);
  file.writeUInt16LE(1, 56);
  file.writeUInt32LE(1, 64);
  const fields = [64 + 56, address, address, code.length, code.length];
  for (const [index, value] of fields.entries()) file.writeBigUInt64LE(BigInt(value), 72 + 8 * index);
  file.set(code, 64 + 56);
  return file;
}

/** A Linux bzImage with this packed in it. */
function bzImage(packed: Uint8Array): Buffer {
  const file = Buffer.alloc(1024 + packed.length);
  file[0x1f1] = 1;
  file[0x201] = 0x6a;
  file.write("HdrS", 0x202);
  file.writeUInt16LE(0x20f, 0x206);
  file.writeUInt32LE(0x7fffffff, 0x22c);
  file.writeUInt16LE(1, 0x236);
  file.writeUInt32LE(2047, 0x238);
  file.writeUInt32LE(packed.length, 0x24c);
  file.set(packed, 1024);
  return file;
}

test("a kernel that was unpacked before is mapped, and guests keep what they write to themselves", async () => {
  using directory = mkdtempDisposableSync(join(tmpdir(), "lodge-kernels-"));
  const folder = join(directory.path, "kernels");
  const code = selfTelling();
  const path = join(directory.path, "kernel");
  writeFileSync(path, bzImage(gzipSync(elf(code, START))));
  using opened = BootFile.open(path, "kernel");
  // It has another identity when it is seen to be older; nobody waits for that here.
  const { sizeBytes } = opened;
  const kernel = { sizeBytes, read: opened.read.bind(opened), identity: "this one" };
  const mapped = () => readFileSync("/proc/self/maps", "latin1").includes(folder);
  const expected = Buffer.from(code);
  expected[3 * PAGE] = 0x57;
  const told = async (memoryBacking?: MemoryBacking) => {
    const said: Uint8Array[] = [];
    await using machine = await Pc.create({
      accelerator: "soft",
      memoryBytes: 64 * 2 ** 20,
      ...(memoryBacking && { memoryBacking }),
      cpus: { count: 1 },
      kernel,
      unpackedKernels: new KernelCache(folder),
      debugExitPort: DEBUG_EXIT,
      debugConsole: (part) => said.push(part),
    });
    machine.start();
    assert.deepEqual(await machine.ended, { reason: "debug-exit", status: 1 });
    assert.ok(Buffer.concat(said).equals(expected), "what the guest tells of itself");
    return { wasMapped: mapped() };
  };
  assert.deepEqual(await told(), { wasMapped: false });
  const [name] = readdirSync(folder);
  const content = readFileSync(join(folder, name!));
  assert.ok(statSync(join(folder, name!)).blocks * 512 < content.length, "zeros take no room");
  assert.deepEqual(await told(), { wasMapped: true });
  assert.equal(mapped(), false, "with the machine its mappings are gone");
  assert.deepEqual(readFileSync(join(folder, name!)), content);
  assert.deepEqual(await told({ hugePages: "transparent" }), { wasMapped: false });
  const memory = join(directory.path, "memory");
  writeFileSync(memory, Buffer.alloc(4 * 2 ** 20, 0xff));
  assert.deepEqual(await told({ file: memory }), { wasMapped: false }, "of another machine nothing is left");
  // What a host leaves that lost its power while it wrote.
  truncateSync(join(folder, name!), 0);
  assert.deepEqual(await told(), { wasMapped: false });
  assert.deepEqual(readFileSync(join(folder, name!)), content);
});

test("a kernel's file is known by what it is and when it was changed, once a change would be seen", () => {
  using directory = mkdtempDisposableSync(join(tmpdir(), "lodge-kernels-"));
  const path = join(directory.path, "kernel");
  writeFileSync(path, "content");
  using fresh = BootFile.open(path, "kernel");
  assert.equal(fresh.identity, undefined, "it may be changed again in the same tick");
  // Nobody has written this program for a while.
  using file = BootFile.open(process.execPath, "kernel");
  const { ino, size } = statSync(process.execPath);
  assert.match(file.identity!, new RegExp(`^\\d+-${ino}-${size}-\\d+-\\d+$`));
  assert.equal(file.identity, file.identity);
});
