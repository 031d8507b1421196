/** What boot protocols need of a machine, and how they put things into its memory. */

import type { GuestRam } from "@lodge/devices";
import { MachineError } from "../errors.ts";
import { Boot } from "../memory/address-map.ts";
import type { MemoryRange } from "../memory/ram-layout.ts";
import { type BootContent, type BootSource, sourceOf } from "./boot-source.ts";

export interface BootModule {
  readonly content: BootContent;
  readonly commandLine?: string;
}

/** What packed kernels were unpacked to, kept from one machine to the next: unpacking takes a tenth of a second to seconds. */
export interface UnpackedKernels {
  /** What the kernel of this {@link BootSource.identity} unpacks to, if it is kept. The caller closes it. */
  get(identity: string): (BootSource & Disposable) | undefined;
  /** Has what it keeps when this returns. */
  keep(identity: string, unpacked: Uint8Array): void;
}

export interface BootRequest {
  readonly kernel: BootContent;
  readonly unpackedKernels?: UnpackedKernels;
  readonly commandLine: string;
  /** Linux's initial RAM disk; for Multiboot kernels the first module. */
  readonly initrd?: BootContent;
  /** Further files for Multiboot kernels. */
  readonly modules?: readonly BootModule[];
  readonly memoryMap: readonly MemoryRange[];
  /** Where RAM below 4 GiB ends. */
  readonly lowRamEnd: number;
  /** ACPI's root pointer. */
  readonly rsdp: number;
}

const PAGE = 4096;

/** A piece of a source, and where it goes: what the memory is longer by is zeros. */
export interface Placement {
  readonly offset: number;
  readonly bytes: number;
  readonly address: number;
  readonly memoryBytes: number;
}

export interface LoaderOptions {
  readonly mapped: ((gpa: number, sizeBytes: number) => void) | undefined;
  readonly isFresh: boolean;
}

/** Guest memory while it is loaded: bounded writes that are refused with the name of what did not fit. */
export class Loader {
  readonly #ram: GuestRam;
  readonly #mapped: ((gpa: number, sizeBytes: number) => void) | undefined;
  readonly #isFresh: boolean;

  /**
   * `mapped` is told of pages of files that lie in the memory then; without it, nothing is mapped. `isFresh`: the memory is zeros,
   * of which pages that nobody touches cost nothing.
   */
  constructor(ram: GuestRam, { mapped, isFresh }: LoaderOptions) {
    this.#ram = ram;
    this.#mapped = mapped;
    this.#isFresh = isFresh;
  }

  put(address: number, content: BootContent, what: string): void {
    const source = sourceOf(content);
    source.read(this.room(address, source.sizeBytes, what), 0);
  }

  /** Pages of a source that lies as they do in memory are mapped, if it can be; the rest is read. */
  place(source: BootSource, { offset, bytes, address, memoryBytes }: Placement, what: string): void {
    const memory = this.room(address, memoryBytes, what);
    const first = -address & (PAGE - 1);
    const end = bytes - ((address + bytes) % PAGE);
    const mapped = this.#mapped;
    if (mapped !== undefined && source.map !== undefined && (address - offset) % PAGE === 0 && end > first) {
      source.read(memory.subarray(0, first), offset);
      source.map(memory.subarray(first, end), offset + first);
      mapped(address + first, end - first);
      source.read(memory.subarray(end, bytes), offset + end);
    } else if (this.#isFresh && source.readOverZeros !== undefined) {
      source.readOverZeros(memory.subarray(0, bytes), offset);
    } else {
      source.read(memory.subarray(0, bytes), offset);
    }
    if (!this.#isFresh) memory.fill(0, bytes);
  }

  /** The bytes there, to be filled. */
  room(address: number, length: number, what: string): Uint8Array {
    const bytes = this.#ram.slice(address, length);
    if (bytes !== undefined) return bytes;
    throw new MachineError(
      "MACHINE_INVALID",
      `${what} (${mib(length)} at 0x${address.toString(16)}) does not fit into the machine's memory; give it more`,
    );
  }

  view(address: number, length: number, what: string): DataView {
    const bytes = this.room(address, length, what);
    return new DataView(bytes.buffer, bytes.byteOffset, length);
  }

  commandLine(
    text: string,
    limit = Boot.COMMAND_LINE_END - Boot.COMMAND_LINE - 1,
  ): { address: number; length: number } {
    const bytes = new TextEncoder().encode(text);
    if (bytes.length > limit || bytes.includes(0)) {
      const wrong = bytes.includes(0)
        ? "it has a NUL in it"
        : `it has ${bytes.length} bytes, and ${limit} are possible`;
      throw new MachineError("MACHINE_INVALID", `the kernel's command line cannot be passed on: ${wrong}`);
    }
    this.put(Boot.COMMAND_LINE, Uint8Array.of(...bytes, 0), "the kernel's command line");
    return { address: Boot.COMMAND_LINE, length: bytes.length };
  }
}

export function mib(bytes: number): string {
  return bytes < 2 ** 20 ? `${bytes} bytes` : `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

export function kernelError(message: string, cause?: unknown): MachineError {
  return new MachineError("MACHINE_KERNEL", message, cause === undefined ? undefined : { cause });
}
