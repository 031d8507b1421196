/**
 * Linux by its own protocol (the kernel's Documentation/arch/x86/boot.rst): the zero page, and the 64-bit entry of a
 * bzImage or a vmlinux.
 */

import { Boot, HIGH_RAM_START } from "../memory/address-map.ts";
import { viewOf } from "../view.ts";
import { type BootSource, pieceOf, sourceOf } from "./boot-source.ts";
import type { Elf } from "./elf.ts";
import type { Entry } from "./entry.ts";
import { type BootRequest, kernelError, type Loader, mib } from "./loader.ts";

/** Offsets in a bzImage and in the zero page alike: the setup header. */
const Setup = {
  START: 0x1f1,
  SETUP_SECTS: 0x1f1,
  /** A short jump: its distance says where the header ends. */
  JUMP: 0x200,
  MAGIC: 0x202,
  VERSION: 0x206,
  TYPE_OF_LOADER: 0x210,
  LOADFLAGS: 0x211,
  RAMDISK_IMAGE: 0x218,
  RAMDISK_SIZE: 0x21c,
  CMD_LINE_PTR: 0x228,
  INITRD_ADDR_MAX: 0x22c,
  XLOADFLAGS: 0x236,
  CMDLINE_SIZE: 0x238,
  PAYLOAD_OFFSET: 0x248,
  PAYLOAD_LENGTH: 0x24c,
  PREF_ADDRESS: 0x258,
  INIT_SIZE: 0x260,
  END: 0x268,
} as const;

/** Offsets of the zero page beside the setup header (arch/x86/include/uapi/asm/bootparam.h). */
const ZeroPage = { ACPI_RSDP: 0x70, E820_ENTRIES: 0x1e8, E820_TABLE: 0x2d0, SIZE: 4096 } as const;
const E820_ENTRY_BYTES = 20;
const E820_MAX = 128;

const HDRS = 0x53726448;
/** A loader without a number of its own. */
const UNDEFINED_LOADER = 0xff;
const LoadFlag = { LOADED_HIGH: 1, KEEP_SEGMENTS: 0x40 } as const;
const XLOAD_KERNEL_64 = 1;
/** Where 64-bit code of the protected-mode part begins. */
const ENTRY_64 = 0x200;
/** The first protocol with payload fields; the first with a 64-bit entry is 2.12. */
const VERSION_64 = 0x020c;

export interface BzImage {
  readonly source: BootSource;
  /** The setup header's bytes, for the zero page. */
  readonly setup: Uint8Array;
  /** Where the protected-mode part begins in the file. */
  readonly kernelOffset: number;
  /** The compressed vmlinux. */
  readonly payload: { readonly offset: number; readonly bytes: number };
}

/** The setup header is in the file's first 0.75 KiB: its length is a byte. */
const HEAD_BYTES = 1024;

export function isBzImage(file: Uint8Array): boolean {
  return file.length >= Setup.END && viewOf(file).getUint32(Setup.MAGIC, true) === HDRS;
}

export function readBzImage(source: BootSource): BzImage {
  const { sizeBytes } = source;
  const head = pieceOf(source, 0, Math.min(sizeBytes, HEAD_BYTES));
  const data = viewOf(head);
  const version = data.getUint16(Setup.VERSION, true);
  if (version < VERSION_64 || (data.getUint16(Setup.XLOADFLAGS, true) & XLOAD_KERNEL_64) === 0) {
    const text = `${version >> 8}.${String(version & 0xff).padStart(2, "0")}`;
    throw kernelError(
      `the kernel is a Linux bzImage without a 64-bit entry (boot protocol ${text}); 64-bit kernels since 3.8 have one`,
    );
  }
  const setupEnd = Setup.MAGIC + head[Setup.JUMP + 1]!;
  const kernelOffset = ((head[Setup.SETUP_SECTS] || 4) + 1) * 512;
  const payloadStart = kernelOffset + data.getUint32(Setup.PAYLOAD_OFFSET, true);
  const payloadBytes = data.getUint32(Setup.PAYLOAD_LENGTH, true);
  const payloadEnd = payloadStart + payloadBytes;
  if (kernelOffset >= sizeBytes || payloadEnd > sizeBytes || setupEnd > ZeroPage.E820_TABLE) {
    throw kernelError(
      `the kernel is a Linux bzImage that is cut off: it has ${mib(sizeBytes)}, its payload ends at ${mib(payloadEnd)}`,
    );
  }
  return {
    source,
    setup: head.subarray(Setup.START, Math.max(setupEnd, Setup.END)),
    kernelOffset,
    payload: { offset: payloadStart, bytes: payloadBytes },
  };
}

/** Loads a bzImage as it is; the guest unpacks it. */
export function loadBzImage(loader: Loader, { source, setup, kernelOffset }: BzImage, request: BootRequest): Entry {
  const header = viewOf(setup);
  const at = (field: number) => field - Setup.START;
  const address = number64(header, at(Setup.PREF_ADDRESS));
  const room = header.getUint32(at(Setup.INIT_SIZE), true);
  loader.room(address, room, "the kernel and the room in which it unpacks itself");
  const bytes = source.sizeBytes - kernelOffset;
  loader.place(source, { offset: kernelOffset, bytes, address, memoryBytes: bytes }, "the kernel");
  writeZeroPage(loader, setup, request, address + room);
  return { mode: "long", rip: address + ENTRY_64, rsp: Boot.STACK, rsi: Boot.INFO };
}

/** Loads an unpacked kernel. `setup`: the header of the bzImage that it was in. */
export function loadVmlinux(
  loader: Loader,
  elf: Elf,
  source: BootSource,
  setup: Uint8Array | undefined,
  request: BootRequest,
): Entry {
  const end = loadSegments(loader, elf, source);
  writeZeroPage(loader, setup ?? MINIMAL_SETUP, request, end);
  return { mode: "long", rip: elf.entry, rsp: Boot.STACK, rsi: Boot.INFO };
}

/** Puts an ELF file's segments where their physical addresses say; returns where the last one ends. */
export function loadSegments(loader: Loader, elf: Elf, source: BootSource): number {
  let end = 0;
  for (const segment of elf.segments) {
    const { physicalAddress: address, fileOffset, fileBytes, memoryBytes } = segment;
    if (address < HIGH_RAM_START && address < Boot.COMMAND_LINE_END && address + memoryBytes > Boot.GDT) {
      throw kernelError(
        `the kernel wants to be loaded at 0x${address.toString(16)}, where boot information lies (below ${Boot.COMMAND_LINE_END / 1024} KiB)`,
      );
    }
    loader.place(source, { offset: fileOffset, bytes: fileBytes, address, memoryBytes }, "a part of the kernel");
    end = Math.max(end, address + memoryBytes);
  }
  return end;
}

/** What a vmlinux without a bzImage around it is told: the newest fields that are not the loader's are empty. */
const MINIMAL_SETUP = (() => {
  const setup = new Uint8Array(Setup.END - Setup.START);
  const header = viewOf(setup);
  const at = (field: number) => field - Setup.START;
  header.setUint16(at(0x1fe), 0xaa55, true);
  header.setUint32(at(Setup.MAGIC), HDRS, true);
  header.setUint16(at(Setup.VERSION), 0x020f, true);
  header.setUint8(at(Setup.LOADFLAGS), LoadFlag.LOADED_HIGH);
  header.setUint32(at(Setup.INITRD_ADDR_MAX), 0x7fffffff, true);
  header.setUint32(at(Setup.CMDLINE_SIZE), 2047, true);
  return setup;
})();

function writeZeroPage(loader: Loader, setup: Uint8Array, request: BootRequest, kernelEnd: number): void {
  const page = loader.view(Boot.INFO, ZeroPage.SIZE, "the zero page");
  const bytes = new Uint8Array(page.buffer, page.byteOffset, page.byteLength);
  bytes.fill(0);
  bytes.set(setup, Setup.START);
  page.setUint8(Setup.TYPE_OF_LOADER, UNDEFINED_LOADER);
  page.setUint8(Setup.LOADFLAGS, page.getUint8(Setup.LOADFLAGS) | LoadFlag.LOADED_HIGH | LoadFlag.KEEP_SEGMENTS);

  const line = loader.commandLine(request.commandLine, page.getUint32(Setup.CMDLINE_SIZE, true));
  page.setUint32(Setup.CMD_LINE_PTR, line.address, true);

  const initrd = request.initrd && sourceOf(request.initrd);
  if (initrd !== undefined && initrd.sizeBytes > 0) {
    const highest = page.getUint32(Setup.INITRD_ADDR_MAX, true) + 1;
    const address = placeAtEnd(initrd.sizeBytes, Math.min(highest, request.lowRamEnd), kernelEnd);
    loader.put(address, initrd, "the initrd");
    page.setUint32(Setup.RAMDISK_IMAGE, address, true);
    page.setUint32(Setup.RAMDISK_SIZE, initrd.sizeBytes, true);
  }

  page.setBigUint64(ZeroPage.ACPI_RSDP, BigInt(request.rsdp), true);
  const map = request.memoryMap.slice(0, E820_MAX);
  page.setUint8(ZeroPage.E820_ENTRIES, map.length);
  for (const [index, { start, sizeBytes, type }] of map.entries()) {
    const at = ZeroPage.E820_TABLE + index * E820_ENTRY_BYTES;
    page.setBigUint64(at, BigInt(start), true);
    page.setBigUint64(at + 8, BigInt(sizeBytes), true);
    page.setUint32(at + 16, type, true);
  }
}

/** As high as possible, on a page: the kernel has most room that way. */
export function placeAtEnd(length: number, end: number, kernelEnd: number): number {
  const address = Math.floor((end - length) / 4096) * 4096;
  if (address >= kernelEnd) return address;
  throw kernelError(
    `the initrd (${mib(length)}) does not fit beside the kernel, which ends at ${mib(kernelEnd)}: give the machine more memory`,
  );
}

function number64(data: DataView, at: number): number {
  return data.getUint32(at, true) + data.getUint32(at + 4, true) * 2 ** 32;
}
