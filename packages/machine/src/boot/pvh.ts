/** The PVH boot protocol (Xen's docs/misc/pvh.pandoc; structures: include/public/arch-x86/hvm/start_info.h). */

import { Boot } from "../memory/address-map.ts";
import { type BootSource, sourceOf } from "./boot-source.ts";
import type { Elf } from "./elf.ts";
import type { Entry } from "./entry.ts";
import { loadSegments, placeAtEnd } from "./linux.ts";
import type { BootRequest, Loader } from "./loader.ts";

/** XEN_ELFNOTE_PHYS32_ENTRY. */
const ENTRY_NOTE = 18;

const MAGIC = 0x336ec578;
const VERSION = 1;
const START_INFO_BYTES = 56;
const MODULE_BYTES = 32;
const MEMORY_ENTRY_BYTES = 24;

/** Where a kernel wants to be entered by PVH; undefined for one that does not. */
export function pvhEntry(elf: Elf): number | undefined {
  const note = elf.note("Xen", ENTRY_NOTE);
  if (note === undefined || note.length < 4) return undefined;
  return new DataView(note.buffer, note.byteOffset, note.length).getUint32(0, true);
}

export function loadPvh(loader: Loader, elf: Elf, source: BootSource, entry: number, request: BootRequest): Entry {
  const { memoryMap, lowRamEnd, rsdp } = request;
  const kernelEnd = loadSegments(loader, elf, source);
  const initrd = request.initrd && sourceOf(request.initrd);
  const hasModule = initrd !== undefined && initrd.sizeBytes > 0;
  const modulesAt = Boot.INFO + START_INFO_BYTES;
  const mapAt = modulesAt + MODULE_BYTES;
  const info = loader.view(Boot.INFO, Boot.INFO_END - Boot.INFO, "PVH's start info");

  if (hasModule) {
    const address = placeAtEnd(initrd.sizeBytes, lowRamEnd, kernelEnd);
    loader.put(address, initrd, "the initrd");
    info.setBigUint64(modulesAt - Boot.INFO, BigInt(address), true);
    info.setBigUint64(modulesAt - Boot.INFO + 8, BigInt(initrd.sizeBytes), true);
  }
  for (const [index, { start, sizeBytes, type }] of memoryMap.entries()) {
    const at = mapAt - Boot.INFO + index * MEMORY_ENTRY_BYTES;
    info.setBigUint64(at, BigInt(start), true);
    info.setBigUint64(at + 8, BigInt(sizeBytes), true);
    info.setUint32(at + 16, type, true);
  }
  info.setUint32(0, MAGIC, true);
  info.setUint32(4, VERSION, true);
  info.setUint32(12, hasModule ? 1 : 0, true);
  info.setBigUint64(16, BigInt(hasModule ? modulesAt : 0), true);
  info.setBigUint64(24, BigInt(loader.commandLine(request.commandLine).address), true);
  info.setBigUint64(32, BigInt(rsdp), true);
  info.setBigUint64(40, BigInt(mapAt), true);
  info.setUint32(48, memoryMap.length, true);
  return { mode: "protected", rip: entry, rbx: Boot.INFO };
}
