/** Multiboot, version 1 (Multiboot Specification 0.6.96). */

import { Boot } from "../memory/address-map.ts";
import { viewOf } from "../view.ts";
import { type BootSource, pieceOf } from "./boot-source.ts";
import type { Entry } from "./entry.ts";
import { type BootRequest, kernelError, type Loader } from "./loader.ts";
import {
  basicMemory,
  cString,
  LOADER_NAME,
  type LoadAddresses,
  loadMultibootKernel,
  placeModules,
} from "./multiboot-load.ts";

const HEADER_MAGIC = 0x1badb002;
/** In eax at the entry. */
const BOOT_MAGIC = 0x2badb002;
/** The header is in the file's first 8 KiB, on 4 bytes. */
const SEARCHED = 8192;

/** What a header asks for. The low half must be understood; there is no video mode to tell of, which is told by silence. */
const Ask = { PAGE_ALIGNED_MODULES: 1, MEMORY: 2, VIDEO: 4, ADDRESSES: 0x10000 } as const;
const MUST_UNDERSTAND = 0xffff;

/** The information: which of its fields are valid, and where they are. */
const Valid = { MEMORY: 1, COMMAND_LINE: 4, MODULES: 8, MEMORY_MAP: 0x40, LOADER_NAME: 0x200 } as const;
const Info = {
  FLAGS: 0,
  MEMORY_LOWER: 4,
  MEMORY_UPPER: 8,
  COMMAND_LINE: 16,
  MODULE_COUNT: 20,
  MODULES: 24,
  MAP_LENGTH: 44,
  MAP: 48,
  LOADER_NAME: 64,
  BYTES: 120,
} as const;
/** With addresses, and without a video mode. */
const HEADER_BYTES = 32;
const MODULE_BYTES = 16;
/** An entry of the memory map: its own size first, which does not count itself. */
const MAP_ENTRY_BYTES = 24;

export interface Multiboot1Header {
  readonly offset: number;
  readonly flags: number;
}

export function findMultiboot1(file: Uint8Array): Multiboot1Header | undefined {
  const data = viewOf(file);
  for (let offset = 0; offset + 12 <= Math.min(file.length, SEARCHED); offset += 4) {
    if (data.getUint32(offset, true) !== HEADER_MAGIC) continue;
    const flags = data.getUint32(offset + 4, true);
    if ((HEADER_MAGIC + flags + data.getUint32(offset + 8, true)) % 2 ** 32 === 0) return { offset, flags };
  }
  return undefined;
}

export function loadMultiboot1(
  loader: Loader,
  source: BootSource,
  { offset, flags }: Multiboot1Header,
  request: BootRequest,
): Entry {
  const unknown = flags & MUST_UNDERSTAND & ~(Ask.PAGE_ALIGNED_MODULES | Ask.MEMORY | Ask.VIDEO);
  if (unknown !== 0)
    throw kernelError(`the kernel's Multiboot header asks for what is not known (0x${unknown.toString(16)})`);
  const data = viewOf(pieceOf(source, offset, Math.min(HEADER_BYTES, source.sizeBytes - offset)));
  let addresses: LoadAddresses | undefined;
  let entry: number | undefined;
  if (flags & Ask.ADDRESSES) {
    if (data.byteLength < HEADER_BYTES) throw kernelError("the kernel ends within its Multiboot header");
    const field = (index: number) => data.getUint32(12 + index * 4, true);
    addresses = { header: field(0), start: field(1), dataEnd: field(2), zeroEnd: field(3) };
    entry = field(4);
  }
  const kernel = loadMultibootKernel(loader, source, offset, addresses, entry);
  const modules = placeModules(loader, request, kernel.end);

  const info = loader.view(Boot.INFO, Boot.INFO_END - Boot.INFO, "Multiboot's information");
  let next: number = Info.BYTES;
  const room = (bytes: number): number => {
    const at = next;
    next = Math.ceil((at + bytes) / 4) * 4;
    if (next > info.byteLength) throw kernelError("what the kernel is told of its modules does not fit (8 KiB)");
    return at;
  };
  const text = (content: string): number => {
    const bytes = cString(content);
    const at = room(bytes.length);
    loader.put(Boot.INFO + at, bytes, "Multiboot's information");
    return Boot.INFO + at;
  };
  const set = (field: number, value: number) => info.setUint32(field, value, true);
  const { COMMAND_LINE, LOADER_NAME: NAMED, MEMORY, MEMORY_MAP, MODULES } = Valid;
  set(Info.FLAGS, MEMORY | COMMAND_LINE | MODULES | MEMORY_MAP | NAMED);
  const { lower, upper } = basicMemory(request);
  set(Info.MEMORY_LOWER, lower);
  set(Info.MEMORY_UPPER, upper);
  set(Info.COMMAND_LINE, loader.commandLine(request.commandLine).address);
  set(Info.LOADER_NAME, text(LOADER_NAME));

  const list = room(modules.length * MODULE_BYTES);
  set(Info.MODULE_COUNT, modules.length);
  set(Info.MODULES, Boot.INFO + list);
  for (const [index, { start, end, commandLine }] of modules.entries()) {
    const at = list + index * MODULE_BYTES;
    set(at, start);
    set(at + 4, end);
    set(at + 8, text(commandLine));
  }

  const map = room(request.memoryMap.length * MAP_ENTRY_BYTES);
  set(Info.MAP, Boot.INFO + map);
  set(Info.MAP_LENGTH, request.memoryMap.length * MAP_ENTRY_BYTES);
  for (const [index, { start, sizeBytes, type }] of request.memoryMap.entries()) {
    const at = map + index * MAP_ENTRY_BYTES;
    set(at, MAP_ENTRY_BYTES - 4);
    info.setBigUint64(at + 4, BigInt(start), true);
    info.setBigUint64(at + 12, BigInt(sizeBytes), true);
    set(at + 20, type);
  }
  return { mode: "protected", rip: kernel.entry, rax: BOOT_MAGIC, rbx: Boot.INFO };
}
