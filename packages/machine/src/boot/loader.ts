/** What boot protocols need of a machine, and how they put things into its memory. */

import type { GuestRam } from "@lodge/devices";
import { MachineError } from "../errors.ts";
import { Boot } from "../memory/address-map.ts";
import type { MemoryRange } from "../memory/ram-layout.ts";

export interface BootModule {
  readonly content: Uint8Array;
  readonly commandLine?: string;
}

/** What packed kernels were unpacked to, kept from one machine to the next: unpacking takes a tenth of a second to seconds. */
export interface UnpackedKernels {
  /** What these bytes unpack to, if it is kept: the caller's own, who lets go of it. */
  get(packed: Uint8Array): Uint8Array | undefined;
  /** Has what it keeps when this returns. */
  keep(packed: Uint8Array, unpacked: Uint8Array): void;
}

export interface BootRequest {
  readonly kernel: Uint8Array;
  readonly unpackedKernels?: UnpackedKernels;
  readonly commandLine: string;
  /** Linux's initial RAM disk; for Multiboot kernels the first module. */
  readonly initrd?: Uint8Array;
  /** Further files for Multiboot kernels. */
  readonly modules?: readonly BootModule[];
  readonly memoryMap: readonly MemoryRange[];
  /** Where RAM below 4 GiB ends. */
  readonly lowRamEnd: number;
  /** ACPI's root pointer. */
  readonly rsdp: number;
}

/** Frees a file's bytes of which a guest has its copy: the engine would keep them until it happens to collect garbage. */
export function letGo(bytes: Uint8Array): void {
  const { buffer } = bytes;
  if (buffer instanceof ArrayBuffer && buffer.byteLength === bytes.byteLength) buffer.transfer(0);
}

/** Guest memory while it is loaded: bounded writes that are refused with the name of what did not fit. */
export class Loader {
  readonly #ram: GuestRam;

  constructor(ram: GuestRam) {
    this.#ram = ram;
  }

  put(address: number, bytes: Uint8Array, what: string): void {
    this.room(address, bytes.length, what).set(bytes);
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
