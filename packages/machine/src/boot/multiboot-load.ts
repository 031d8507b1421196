/** What both versions of Multiboot have in common: where the kernel and its modules go. */

import { type BootSource, sourceOf } from "./boot-source.ts";
import { type Elf, isElf, readElf } from "./elf.ts";
import { loadSegments } from "./linux.ts";
import { type BootModule, type BootRequest, kernelError, type Loader } from "./loader.ts";

/** A kernel that says itself what to load where, as one that is no ELF file must. Addresses are physical. */
export interface LoadAddresses {
  /** Where the header itself is to lie. */
  readonly header: number;
  readonly start: number;
  /** 0: up to the file's end. */
  readonly dataEnd: number;
  /** 0: there is no more than the data. */
  readonly zeroEnd: number;
}

export interface LoadedKernel {
  readonly entry: number;
  readonly end: number;
}

export interface PlacedModule {
  readonly start: number;
  readonly end: number;
  readonly commandLine: string;
}

/** Loads a kernel whose header is at `headerOffset` of its file. */
export function loadMultibootKernel(
  loader: Loader,
  source: BootSource,
  headerOffset: number,
  addresses: LoadAddresses | undefined,
  entry: number | undefined,
): LoadedKernel {
  if (addresses !== undefined) {
    const { header, start, dataEnd, zeroEnd } = addresses;
    const from = headerOffset - (header - start);
    const length = (dataEnd === 0 ? start + source.sizeBytes - from : dataEnd) - start;
    if (entry === undefined || from < 0 || length < 0 || from + length > source.sizeBytes) {
      throw kernelError("the kernel's Multiboot header names parts that its file does not have");
    }
    const end = Math.max(start + length, zeroEnd);
    loader.place(source, { offset: from, bytes: length, address: start, memoryBytes: end - start }, "the kernel");
    return { entry, end };
  }
  if (!isElf(source)) throw kernelError("the kernel has a Multiboot header without addresses, and is no ELF file");
  const elf = readElf(source);
  return { entry: entry ?? physicalEntry(elf), end: loadSegments(loader, elf, source) };
}

/** The entry of an ELF file is a virtual address if one of its segments is there; paging is off at the entry. */
function physicalEntry({ entry, segments }: Elf): number {
  const home = segments.find(
    ({ virtualAddress, memoryBytes }) => entry >= virtualAddress && entry < virtualAddress + memoryBytes,
  );
  return home === undefined ? entry : entry - home.virtualAddress + home.physicalAddress;
}

/** The initrd and the modules, on pages behind the kernel. */
export function placeModules(loader: Loader, request: BootRequest, kernelEnd: number): PlacedModule[] {
  const modules: BootModule[] = [...(request.modules ?? [])];
  if (request.initrd !== undefined) modules.unshift({ content: request.initrd });
  let next = kernelEnd;
  return modules.map(({ content, commandLine = "" }, index) => {
    const start = Math.ceil(next / 4096) * 4096;
    const source = sourceOf(content);
    loader.put(start, source, `module ${index + 1}`);
    next = start + source.sizeBytes;
    return { start, end: next, commandLine };
  });
}

/** KiB below 1 MiB and above it, up to the first hole, as both versions tell. */
export function basicMemory(request: BootRequest): { lower: number; upper: number } {
  return { lower: 639, upper: (request.lowRamEnd - 2 ** 20) / 1024 };
}

/** Bytes of a text with its end. */
export function cString(text: string): Uint8Array {
  return Uint8Array.of(...new TextEncoder().encode(text), 0);
}

export const LOADER_NAME = "Lodge";
