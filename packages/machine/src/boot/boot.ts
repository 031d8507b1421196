/** Finds the boot protocol that a kernel speaks, and loads it by that. */

import { Boot } from "../memory/address-map.ts";
import { isElf, readElf } from "./elf.ts";
import { type Entry, writeBootTables } from "./entry.ts";
import { isBzImage, loadBzImage, loadVmlinux, readBzImage } from "./linux.ts";
import { type BootRequest, kernelError, type Loader, letGo } from "./loader.ts";
import { findMultiboot1, loadMultiboot1 } from "./multiboot1.ts";
import { findMultiboot2, loadMultiboot2 } from "./multiboot2.ts";
import { loadPvh, pvhEntry } from "./pvh.ts";
import { unpack } from "./unpack/unpack.ts";

/** Loads the kernel and everything that it is told, and returns how the first vCPU begins. */
export function loadKernel(loader: Loader, request: BootRequest): Entry {
  const kernel = whole(request.kernel);
  if (kernel.length === 0) throw kernelError("the kernel is an empty file");
  writeBootTables(loader.view(0, Boot.STACK, "what the boot leaves in low memory"));
  if (isBzImage(kernel)) return loadLinux(loader, request, kernel);

  const second = findMultiboot2(kernel);
  if (second !== undefined) return loadMultiboot2(loader, kernel, second, request);
  const first = findMultiboot1(kernel);
  if (first !== undefined) return loadMultiboot1(loader, kernel, first, request);
  if (isElf(kernel)) return loadElf(loader, request, kernel);
  throw kernelError(`no boot protocol fits the kernel: ${what(kernel)}`);
}

/** A kernel file may be packed as a whole (vmlinux.gz and the like). */
function whole(kernel: Uint8Array): Uint8Array {
  try {
    return unpack(kernel) ?? kernel;
  } catch (cause) {
    throw kernelError("the kernel is a packed file that is damaged or cut off", cause);
  }
}

/** A bzImage's kernel is unpacked here, many times faster than by a guest; in a form not known here the guest does it. */
function loadLinux(loader: Loader, request: BootRequest, kernel: Uint8Array): Entry {
  const image = readBzImage(kernel);
  let vmlinux = request.unpackedKernels?.get(image.payload);
  try {
    if (vmlinux === undefined) {
      vmlinux = unpack(image.payload);
      if (vmlinux !== undefined) request.unpackedKernels?.keep(image.payload, vmlinux);
    }
  } catch (cause) {
    throw kernelError("the kernel is a Linux bzImage whose packed part is damaged", cause);
  }
  if (vmlinux === undefined || !isElf(vmlinux)) return loadBzImage(loader, image, request);
  const entry = loadVmlinux(loader, readElf(vmlinux), vmlinux, image.setup, request);
  letGo(vmlinux);
  return entry;
}

function loadElf(loader: Loader, request: BootRequest, file: Uint8Array): Entry {
  const elf = readElf(file);
  const entry = pvhEntry(elf);
  if (entry !== undefined) return loadPvh(loader, elf, file, entry, request);
  // Without a note or header there is only Linux's own way, which 64-bit kernels have had before they had PVH.
  if (elf.bits === 64) return loadVmlinux(loader, elf, file, undefined, request);
  throw kernelError(
    "no boot protocol fits the kernel: it is a 32-bit ELF file without a Multiboot header and without a PVH entry (a Xen note of type 18)",
  );
}

const LOOKS_LIKE: readonly [name: string, magic: readonly number[]][] = [
  ["a program or script that begins with #!", [0x23, 0x21]],
  ["a Windows or EFI program (MZ)", [0x4d, 0x5a]],
  ["a cpio archive, which an initrd may be", [0x30, 0x37, 0x30, 0x37]],
  ["a qcow2 disk image", [0x51, 0x46, 0x49, 0xfb]],
  ["a Debian package", [0x21, 0x3c, 0x61, 0x72]],
  ["packed with bzip2, which kernels can be, but not here", [0x42, 0x5a, 0x68]],
  ["packed with LZMA, which kernels can be, but not here", [0x5d, 0x00, 0x00]],
];

function what(kernel: Uint8Array): string {
  const known = LOOKS_LIKE.find(([, magic]) => magic.every((byte, index) => kernel[index] === byte));
  const hex = Array.from(kernel.subarray(0, 8), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
  return known === undefined
    ? `it is no Linux bzImage, no ELF file, and has no Multiboot header; it begins with ${hex}`
    : `it is ${known[0]}`;
}
