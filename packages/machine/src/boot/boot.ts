/** Finds the boot protocol that a kernel speaks, and loads it by that. */

import { MachineError } from "../errors.ts";
import { isElf, readElf } from "./elf.ts";
import { type Entry, writeBootTables } from "./entry.ts";
import { isBzImage, loadBzImage, loadVmlinux, readBzImage } from "./linux.ts";
import { type BootRequest, kernelError, type Loader } from "./loader.ts";
import { unpack } from "./unpack/unpack.ts";

/** Loads the kernel and everything that it is told, and returns how the first vCPU begins. */
export function loadKernel(loader: Loader, request: BootRequest): Entry {
  const { kernel } = request;
  if (kernel.length === 0) throw kernelError("the kernel is an empty file");
  writeBootTables(loader.view(0, 0x10000, "what the boot leaves in low memory"));
  if (isBzImage(kernel)) return loadLinux(loader, request);
  if (isElf(kernel)) return loadElf(loader, request, kernel);
  throw kernelError(
    `no boot protocol fits the kernel: it is no Linux bzImage and no ELF file, it begins with ${beginning(kernel)}`,
  );
}

/** A bzImage's kernel is unpacked here, many times faster than by a guest; where that fails the guest does it. */
function loadLinux(loader: Loader, request: BootRequest): Entry {
  const image = readBzImage(request.kernel);
  const vmlinux = unpack(image.payload);
  if (vmlinux === undefined || !isElf(vmlinux)) return loadBzImage(loader, image, request);
  return loadVmlinux(loader, readElf(vmlinux), vmlinux, image.setup, request);
}

function loadElf(loader: Loader, request: BootRequest, file: Uint8Array): Entry {
  const elf = readElf(file);
  if (elf.bits === 64) return loadVmlinux(loader, elf, file, undefined, request);
  throw new MachineError("MACHINE_KERNEL", "the kernel is a 32-bit ELF file without a header that says how to boot it");
}

function beginning(bytes: Uint8Array): string {
  return Array.from(bytes.subarray(0, 8), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
}
