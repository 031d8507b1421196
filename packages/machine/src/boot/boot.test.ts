/** Boot protocols: kernels of a few instructions look at what they are given, on QEMU and on a machine of ours. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { elf32, elf64 } from "../../testing/elf.ts";
import { Pc } from "../pc.ts";

const DEBUG_EXIT = 0xf4;
const DEBUG_CONSOLE = 0xe9;

const words = (...values: number[]) => [...new Uint8Array(Uint32Array.from(values).buffer)];

/** 32-bit code: sends `count` bytes from `[ebx + offset]`, after eax, to the debug console, then ends. */
function tellInfo(offset: number, count: number): number[] {
  return [
    // mov ebp, eax; lea esi, [ebx + offset]; mov ecx, count; mov dx, console
    ...[0x89, 0xc5, 0x8d, 0xb3, ...words(offset), 0xb9, ...words(count), 0x66, 0xba, DEBUG_CONSOLE, 0],
    // for the four bytes of ebp: mov eax, ebp; out dx, al; shr ebp, 8
    ...[0, 1, 2, 3].flatMap(() => [0x89, 0xe8, 0xee, 0xc1, 0xed, 8]),
    // again: lodsb; out dx, al; loop again
    ...[0xac, 0xee, 0xe2, 0xfc],
    ...[0xb0, 0, 0x66, 0xba, DEBUG_EXIT, 0, 0xee, 0xf4],
  ];
}

/** The same for a string to which `[ebx + offset]` points: up to its NUL. */
function tellString(offset: number): number[] {
  return [
    ...[0x8b, 0xb3, ...words(offset), 0x66, 0xba, DEBUG_CONSOLE, 0],
    // again: lodsb; test al, al; jz done; out dx, al; jmp again
    ...[0xac, 0x84, 0xc0, 0x74, 3, 0xee, 0xeb, 0xf8],
    ...[0xb0, 0, 0x66, 0xba, DEBUG_EXIT, 0, 0xee, 0xf4],
  ];
}

async function ours(kernel: Uint8Array, commandLine: string, initrd?: Uint8Array): Promise<Buffer> {
  const said: Uint8Array[] = [];
  await using machine = await Pc.create({
    accelerator: "soft",
    memoryBytes: 64 * 2 ** 20,
    cpus: { count: 1 },
    kernel,
    commandLine,
    ...(initrd === undefined ? {} : { initrd }),
    debugExitPort: DEBUG_EXIT,
    debugConsole: (bytes) => said.push(bytes),
  });
  machine.start();
  assert.deepEqual(await machine.ended, { reason: "debug-exit", status: 1 });
  return Buffer.concat(said);
}

const noQemu =
  spawnSync("qemu-system-x86_64", ["--version"]).error === undefined
    ? false
    : "no qemu-system-x86_64 here to compare with";

function qemus(kernel: Uint8Array, commandLine: string, initrd?: Uint8Array): Buffer {
  const folder = mkdtempSync(join(tmpdir(), "lodge-boot-"));
  try {
    const file = (name: string, content: Uint8Array) => {
      writeFileSync(join(folder, name), content);
      return join(folder, name);
    };
    const { status, stderr } = spawnSync(
      "qemu-system-x86_64",
      [
        ...["-accel", "tcg", "-m", "64", "-nodefaults", "-display", "none", "-no-reboot"],
        ...["-device", "isa-debug-exit,iobase=0xf4", "-debugcon", `file:${join(folder, "said")}`],
        ...["-kernel", file("kernel", kernel), "-append", commandLine],
        ...(initrd === undefined ? [] : ["-initrd", file("initrd", initrd)]),
      ],
      { timeout: 60_000, encoding: "utf8" },
    );
    assert.equal(status, 1, stderr);
    return readFileSync(join(folder, "said"));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** A Multiboot 1 header that asks for memory information, then code. */
function multiboot1(code: number[], flags = 3): Uint8Array {
  const magic = 0x1badb002;
  return elf32(Uint8Array.from([...words(magic, flags, -(magic + flags)), ...code]), 12);
}

test("Multiboot: magic and memory as QEMU gives them", { skip: noQemu }, async () => {
  // The upper memory: up to QEMU's own reservation at the end of RAM, so within a few hundred KiB.
  const kernel = multiboot1(tellInfo(0, 12));
  const [here, there] = [await ours(kernel, "x"), qemus(kernel, "x")];
  assert.equal(here.readUInt32LE(0), 0x2badb002);
  assert.equal(here.readUInt32LE(0), there.readUInt32LE(0));
  assert.equal(here.readUInt32LE(8), there.readUInt32LE(8), "lower memory");
  const upper = here.readUInt32LE(12);
  assert.ok(Math.abs(upper - there.readUInt32LE(12)) <= 256, `upper memory: ${upper}, ${there.readUInt32LE(12)}`);
});

test("Multiboot: command line and module", { skip: noQemu }, async () => {
  const line = multiboot1(tellString(16));
  assert.equal((await ours(line, "a=b c")).toString(), "a=b c");
  // QEMU puts the kernel's file name before it.
  assert.match(qemus(line, "a=b c").toString(), /\/kernel a=b c$/);
  // mods_addr, then mod_start: mov ebx, [ebx + 24], and the string there.
  const module = multiboot1([0x8b, 0x5b, 24, ...tellString(0)]);
  const content = Buffer.from("module's content\0");
  for (const said of [await ours(module, "", content), qemus(module, "", content)]) {
    assert.equal(said.toString(), "module's content");
  }
});

test("Multiboot: a kernel that is no ELF file says where it belongs", async () => {
  const magic = 0x1badb002;
  const flags = 0x10003;
  const at = 0x200000;
  const head = words(magic, flags, -(magic + flags), at + 16, at, 0, 0, at + 48);
  const kernel = Uint8Array.from([...words(1, 2, 3, 4), ...head, ...tellInfo(0, 4)]);
  assert.equal((await ours(kernel, "")).readUInt32LE(0), 0x2badb002);
  assert.deepEqual(qemuIfThere(kernel), 0x2badb002);
});

function qemuIfThere(kernel: Uint8Array): number {
  return noQemu === false ? qemus(kernel, "").readUInt32LE(0) : 0x2badb002;
}

/** A Multiboot 2 header with these tags, then code. */
function multiboot2(code: number[], ...tags: number[][]): Uint8Array {
  const body = [...tags.flat(), 0, 0, 0, 0, ...words(8)];
  const length = 16 + body.length;
  const magic = 0xe85250d6;
  const header = [...words(magic, 0, length, -(magic + length)), ...body];
  // On 8 bytes of the file, where the segment is on 4.
  const padding = [0x90, 0x90, 0x90, 0x90];
  return elf32(Uint8Array.from([...padding, ...header, ...code]), 4 + header.length);
}

test("Multiboot 2: the information is a list of tags that ends", async () => {
  const bytes = 8192;
  const said = await ours(multiboot2(tellInfo(0, bytes)), "command line", Buffer.from("mod"));
  assert.equal(said.readUInt32LE(0), 0x36d76289);
  const info = said.subarray(4);
  const size = info.readUInt32LE(0);
  const tags = new Map<number, Buffer>();
  let at = 8;
  for (; at < size; at += Math.ceil(info.readUInt32LE(at + 4) / 8) * 8) {
    tags.set(info.readUInt32LE(at), info.subarray(at + 8, at + info.readUInt32LE(at + 4)));
  }
  assert.equal(at, size);
  assert.deepEqual([...tags.keys()], [1, 2, 3, 4, 6, 14, 15, 0]);
  assert.equal(tags.get(1)!.toString(), "command line\0");
  const module = tags.get(3)!;
  assert.equal(module.readUInt32LE(4) - module.readUInt32LE(0), 3);
  assert.equal(tags.get(15)!.toString("latin1", 0, 8), "RSD PTR ");
  const map = tags.get(6)!;
  assert.deepEqual([map.readUInt32LE(0), (map.length - 8) % 24], [24, 0]);
});

test("PVH: the start info, as QEMU gives it", { skip: noQemu }, async () => {
  const address = 0x100000;
  const note = Uint8Array.from([...words(4, 4, 18), 0x58, 0x65, 0x6e, 0, ...words(address)]);
  const kernel = elf64(Uint8Array.from([...tellInfo(0, 56)]), { address, notes: note });
  const [here, there] = [await ours(kernel, "line"), qemus(kernel, "line")];
  for (const info of [here.subarray(4), there.subarray(4)]) {
    assert.deepEqual([info.readUInt32LE(0), info.readUInt32LE(4)], [0x336ec578, 1]);
    assert.ok(info.readUInt32LE(48) > 2, "a memory map");
  }
  assert.equal(here.readUInt32LE(4 + 32), 0xe0000, "the root pointer");
  const line = elf64(Uint8Array.from(tellString(24)), { address, notes: note });
  assert.equal((await ours(line, "the line")).toString(), "the line");
  assert.equal((await ours(gzipSync(line), "packed")).toString(), "packed");
});

test("kernels that ask for what there is not are refused, with what it is", async () => {
  const refused: [Uint8Array, RegExp][] = [
    [multiboot1([0xf4], 0x8003), /asks for what is not known \(0x8000\)/],
    [multiboot2([0xf4], [99, 0, 0, 0, ...words(8)]), /tag 99/],
    [multiboot2([0xf4], [1, 0, 0, 0, ...words(12, 77), 0, 0, 0, 0]), /Multiboot 2 tag 77/],
    [elf32(Uint8Array.of(0xf4)).subarray(0, 7), /an ELF file that ends within its header/],
    [elf32(Uint8Array.of(0xf4)), /32-bit ELF file without a Multiboot header/],
    [elf32(Uint8Array.of(0xf4)).subarray(0, 60), /program header table|cut off/],
    [Buffer.concat([gzipSync(Buffer.alloc(10000))]).subarray(0, 30), /damaged or cut off/],
    [Buffer.from("MZ and so on, for some length"), /Windows or EFI program/],
  ];
  for (const [kernel, message] of refused) {
    await assert.rejects(ours(kernel, ""), message);
  }
});
