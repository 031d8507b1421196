/** Multiboot, version 2 (Multiboot2 Specification 2.0). */

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

const HEADER_MAGIC = 0xe85250d6;
/** In eax at the entry. */
const BOOT_MAGIC = 0x36d76289;
/** The header is in the file's first 32 KiB, on 8 bytes. */
const SEARCHED = 32768;
const I386 = 0;

/** Tags of the header (3.1.3 and on); those that only matter to other loaders are passed over. */
const HeaderTag = {
  END: 0,
  INFORMATION_REQUEST: 1,
  ADDRESSES: 2,
  ENTRY: 3,
  CONSOLE: 4,
  FRAMEBUFFER: 5,
  MODULE_ALIGNMENT: 6,
  EFI_BOOT_SERVICES: 7,
  RELOCATABLE: 10,
} as const;
const OPTIONAL = 1;

/** Tags of the information (3.6). */
const InfoTag = {
  END: 0,
  COMMAND_LINE: 1,
  LOADER_NAME: 2,
  MODULE: 3,
  BASIC_MEMORY: 4,
  MEMORY_MAP: 6,
  ACPI_OLD: 14,
  ACPI_NEW: 15,
} as const;
const TOLD: ReadonlySet<number> = new Set(Object.values(InfoTag));
const OLD_RSDP_BYTES = 20;
const RSDP_BYTES = 36;
const MAP_ENTRY_BYTES = 24;

export interface Multiboot2Header {
  readonly offset: number;
  readonly length: number;
}

export function findMultiboot2(file: Uint8Array): Multiboot2Header | undefined {
  const data = viewOf(file);
  for (let offset = 0; offset + 16 <= Math.min(file.length, SEARCHED); offset += 8) {
    if (data.getUint32(offset, true) !== HEADER_MAGIC) continue;
    const [architecture, length, checksum] = [4, 8, 12].map((at) => data.getUint32(offset + at, true)) as [
      number,
      number,
      number,
    ];
    if ((HEADER_MAGIC + architecture + length + checksum) % 2 ** 32 !== 0) continue;
    if (architecture === I386 && offset + length <= file.length) return { offset, length };
  }
  return undefined;
}

interface Wishes {
  addresses?: LoadAddresses;
  entry?: number;
}

function readHeader(header: Uint8Array): Wishes {
  const data = viewOf(header);
  const wishes: Wishes = {};
  const end = header.length;
  for (let at = 16; at + 8 <= end; ) {
    const type = data.getUint16(at, true);
    const isOptional = (data.getUint16(at + 2, true) & OPTIONAL) !== 0;
    const size = data.getUint32(at + 4, true);
    if (type === HeaderTag.END) break;
    if (size < 8 || at + size > end) throw kernelError(`the kernel's Multiboot 2 header has a tag of ${size} bytes`);
    const field = (index: number) => {
      if (8 + index * 4 + 4 > size) throw kernelError(`the kernel's Multiboot 2 header has a short tag (${type})`);
      return data.getUint32(at + 8 + index * 4, true);
    };
    switch (type) {
      case HeaderTag.INFORMATION_REQUEST:
        for (let index = 0; !isOptional && 8 + index * 4 + 4 <= size; index++) {
          if (TOLD.has(field(index))) continue;
          throw kernelError(
            `the kernel needs information that a loader here does not have (Multiboot 2 tag ${field(index)})`,
          );
        }
        break;
      case HeaderTag.ADDRESSES:
        wishes.addresses = { header: field(0), start: field(1), dataEnd: field(2), zeroEnd: field(3) };
        break;
      case HeaderTag.ENTRY:
        wishes.entry = field(0);
        break;
      case HeaderTag.CONSOLE:
      case HeaderTag.FRAMEBUFFER:
      case HeaderTag.MODULE_ALIGNMENT:
      case HeaderTag.EFI_BOOT_SERVICES:
      case HeaderTag.RELOCATABLE:
        break;
      default:
        if (!isOptional) throw kernelError(`the kernel's Multiboot 2 header asks for what is not known (tag ${type})`);
    }
    at += Math.ceil(size / 8) * 8;
  }
  return wishes;
}

export function loadMultiboot2(
  loader: Loader,
  source: BootSource,
  header: Multiboot2Header,
  request: BootRequest,
): Entry {
  const { addresses, entry } = readHeader(pieceOf(source, header.offset, header.length));
  const kernel = loadMultibootKernel(loader, source, header.offset, addresses, entry);
  const modules = placeModules(loader, request, kernel.end);

  const { lower, upper } = basicMemory(request);
  const rsdp = loader.room(request.rsdp, RSDP_BYTES, "ACPI's root pointer");
  const map = new DataView(new ArrayBuffer(request.memoryMap.length * MAP_ENTRY_BYTES));
  for (const [index, { start, sizeBytes, type }] of request.memoryMap.entries()) {
    map.setBigUint64(index * MAP_ENTRY_BYTES, BigInt(start), true);
    map.setBigUint64(index * MAP_ENTRY_BYTES + 8, BigInt(sizeBytes), true);
    map.setUint32(index * MAP_ENTRY_BYTES + 16, type, true);
  }
  const information = tags([
    [InfoTag.COMMAND_LINE, cString(request.commandLine)],
    [InfoTag.LOADER_NAME, cString(LOADER_NAME)],
    ...modules.map(({ start, end, commandLine }): Tag => [InfoTag.MODULE, words(start, end), cString(commandLine)]),
    [InfoTag.BASIC_MEMORY, words(lower, upper)],
    // The size of an entry, and the version of its form.
    [InfoTag.MEMORY_MAP, words(MAP_ENTRY_BYTES, 0), new Uint8Array(map.buffer)],
    [InfoTag.ACPI_OLD, rsdp.slice(0, OLD_RSDP_BYTES)],
    [InfoTag.ACPI_NEW, rsdp.slice()],
    [InfoTag.END],
  ]);
  if (information.length > Boot.INFO_END - Boot.INFO) {
    throw kernelError("what the kernel is told (its command line and modules) does not fit (8 KiB)");
  }
  loader.put(Boot.INFO, information, "Multiboot's information");
  return { mode: "protected", rip: kernel.entry, rax: BOOT_MAGIC, rbx: Boot.INFO };
}

type Tag = [type: number, ...content: Uint8Array[]];

/** The information: its size, a reserved word, then tags on 8 bytes. */
function tags(list: readonly Tag[]): Uint8Array {
  const parts = list.map(([type, ...content]) => {
    const size = 8 + content.reduce((sum, { length }) => sum + length, 0);
    const bytes = new Uint8Array(Math.ceil(size / 8) * 8);
    bytes.set(words(type, size));
    let at = 8;
    for (const part of content) {
      bytes.set(part, at);
      at += part.length;
    }
    return bytes;
  });
  const whole = new Uint8Array(8 + parts.reduce((sum, { length }) => sum + length, 0));
  whole.set(words(whole.length, 0));
  let at = 8;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function words(...values: number[]): Uint8Array {
  const bytes = new DataView(new ArrayBuffer(values.length * 4));
  for (const [index, value] of values.entries()) bytes.setUint32(index * 4, value, true);
  return new Uint8Array(bytes.buffer);
}
