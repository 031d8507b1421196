/** Finds the boot protocol that a kernel speaks, and loads it by that. */

import { Boot } from "../memory/address-map.ts";
import { type BootSource, pieceOf, sourceOf, wholeOf } from "./boot-source.ts";
import { isElf, readElf } from "./elf.ts";
import { type Entry, writeBootTables } from "./entry.ts";
import { type BzImage, isBzImage, loadBzImage, loadVmlinux, readBzImage } from "./linux.ts";
import { type BootRequest, kernelError, type Loader } from "./loader.ts";
import { findMultiboot1, loadMultiboot1 } from "./multiboot1.ts";
import { findMultiboot2, loadMultiboot2 } from "./multiboot2.ts";
import { loadPvh, pvhEntry } from "./pvh.ts";
import { packedForm } from "./unpack/form.ts";

/** Loads the kernel and everything that it is told, and returns how the first vCPU begins. */
export async function loadKernel(loader: Loader, request: BootRequest): Promise<Entry> {
  const kernel = await whole(sourceOf(request.kernel));
  if (kernel.sizeBytes === 0) throw kernelError("the kernel is an empty file");
  writeBootTables(loader.view(0, Boot.STACK, "what the boot leaves in low memory"));
  const head = headOf(kernel);
  if (isBzImage(head)) return loadLinux(loader, request, kernel);

  const second = findMultiboot2(head);
  if (second !== undefined) return loadMultiboot2(loader, kernel, second, request);
  const first = findMultiboot1(head);
  if (first !== undefined) return loadMultiboot1(loader, kernel, first, request);
  if (isElf(kernel)) return loadElf(loader, request, kernel);
  throw kernelError(`no boot protocol fits the kernel: ${what(head)}`);
}

/** Where headers are that say what a kernel is: Multiboot 2 gives them the most, 32 KiB. */
const HEAD_BYTES = 32768;

function headOf(kernel: BootSource): Uint8Array {
  return pieceOf(kernel, 0, Math.min(kernel.sizeBytes, HEAD_BYTES));
}

/** A kernel file may be packed as a whole (vmlinux.gz and the like). */
async function whole(kernel: BootSource): Promise<BootSource> {
  if (packedForm(headOf(kernel)) === undefined) return kernel;
  const { unpack } = await import("./unpack/unpack.ts");
  try {
    return sourceOf(unpack(wholeOf(kernel))!);
  } catch (cause) {
    throw kernelError("the kernel is a packed file that is damaged or cut off", cause);
  }
}

/** A bzImage's kernel is unpacked here, many times faster than by a guest; in a form not known here the guest does it. */
async function loadLinux(loader: Loader, request: BootRequest, kernel: BootSource): Promise<Entry> {
  const image = readBzImage(kernel);
  const { identity } = kernel;
  using kept = identity === undefined ? undefined : request.unpackedKernels?.get(identity);
  if (kept !== undefined && isElf(kept)) return loadVmlinux(loader, readElf(kept), kept, image.setup, request);
  const unpacked = await unpackedFrom(image);
  if (unpacked === undefined || !isElf(sourceOf(unpacked))) return loadBzImage(loader, image, request);
  const vmlinux = sourceOf(unpacked);
  const entry = loadVmlinux(loader, readElf(vmlinux), vmlinux, image.setup, request);
  // What it says now is of what was read only if it has said so before.
  if (identity !== undefined && identity === kernel.identity) request.unpackedKernels?.keep(identity, unpacked);
  letGo(unpacked);
  return entry;
}

async function unpackedFrom({ source, payload }: BzImage): Promise<Uint8Array | undefined> {
  const { unpack } = await import("./unpack/unpack.ts");
  try {
    return unpack(pieceOf(source, payload.offset, payload.bytes));
  } catch (cause) {
    throw kernelError("the kernel is a Linux bzImage whose packed part is damaged", cause);
  }
}

/** Frees bytes of which a guest has its copy: the engine would keep them until it happens to collect garbage. */
function letGo({ buffer, byteLength }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0);
}

function loadElf(loader: Loader, request: BootRequest, kernel: BootSource): Entry {
  const elf = readElf(kernel);
  const entry = pvhEntry(elf);
  if (entry !== undefined) return loadPvh(loader, elf, kernel, entry, request);
  // Without a note or header there is only Linux's own way, which 64-bit kernels have had before they had PVH.
  if (elf.bits === 64) return loadVmlinux(loader, elf, kernel, undefined, request);
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

function what(head: Uint8Array): string {
  const known = LOOKS_LIKE.find(([, magic]) => magic.every((byte, index) => head[index] === byte));
  const hex = Array.from(head.subarray(0, 8), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
  return known === undefined
    ? `it is no Linux bzImage, no ELF file, and has no Multiboot header; it begins with ${hex}`
    : `it is ${known[0]}`;
}
