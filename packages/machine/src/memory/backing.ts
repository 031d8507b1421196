/** A machine's memory, and what it is made of on the host. */

import { readFileSync, statfsSync, statSync } from "node:fs";
import { dirname } from "node:path";
import type { RamPiece, SharedRam } from "@lodge/devices";
import type { GuestMemory, Hypervisor } from "@lodge/kvm";
import {
  Advice,
  addressOf,
  addSeals,
  Descriptor,
  ftruncate,
  MapFlag,
  MemfdFlag,
  madvise,
  memfdCreate,
  mmap,
  OpenFlag,
  open,
  Protection,
  Seal,
} from "@lodge/linux";
import { mib } from "../boot/loader.ts";
import { MachineError } from "../errors.ts";
import type { PlacedMemory } from "./device-memory.ts";
import { bytesOf } from "./ram-layout.ts";

export interface MemoryBacking {
  /**
   * Huge pages of the host: `2M` takes them from those that the administrator has reserved, all at once; `transparent`
   * asks the kernel to use them where it can.
   */
  readonly hugePages?: "2M" | "transparent";
  /** A file that holds the memory, shared with whoever else maps it. It is made as long as the memory. */
  readonly file?: string;
  /** Other programs are given it, without a name in the file system: what serves a vhost-user device. */
  readonly shared?: boolean;
  /** The host may merge equal pages with those of other machines (KSM). */
  readonly mergeable?: boolean;
}

const HUGE_PAGE = 2 * 2 ** 20;

/** A machine's memory. */
export interface MachineMemory {
  readonly memory: GuestMemory;
  /** Where RAM begins in it; devices' own memory is behind that. */
  readonly start: number;
  /** RAM for other programs, if a file holds it, and that file, which the caller closes. */
  readonly shared?: SharedRam;
  readonly holder?: Disposable;
}

/**
 * Memory for a machine that needs the host for it. On KVM, RAM begins at a huge page of the host, as it does for the guest, and is made
 * of such where the host has them to give: by small ones a guest comes out of KVM at the first touch of each, which is most of what a
 * booting kernel comes out for. `pieces` and `placed` count from RAM's first byte.
 */
export function makeMemory(
  hypervisor: Hypervisor,
  pieces: readonly RamPiece[],
  placed: readonly PlacedMemory[],
  backing: MemoryBacking = {},
): MachineMemory {
  const ramBytes = bytesOf(pieces);
  const sizeBytes = ramBytes + bytesOf(placed.map(({ piece }) => piece));
  // Where the software processor has its memory, compiled code decides.
  const isKvm = hypervisor.kind === "kvm";
  const memory = hypervisor.createMemory(sizeBytes + (isKvm ? HUGE_PAGE : 0));
  const first = addressOf(memory.buffer);
  const address = isKvm ? Math.ceil(first / HUGE_PAGE) * HUGE_PAGE : first;
  const start = address - first;
  using undo = new DisposableStack();
  const holder = backMemory(address, ramBytes, backing, isKvm);
  if (holder !== undefined) undo.use(holder);
  mapDeviceMemory(address, placed);
  undo.move();
  return { memory, start, ...(holder && { holder, shared: { fd: holder.fd, address, start, pieces } }) };
}

/** Lays what backs a machine's memory over it, before anything is in it; returns the file, if it is one. */
function backMemory(
  address: number,
  sizeBytes: number,
  backing: MemoryBacking,
  prefersHuge: boolean,
): Descriptor | undefined {
  const { hugePages, file, mergeable = false } = backing;
  if (file !== undefined && hugePages === "2M") {
    throw new MachineError(
      "MACHINE_INVALID",
      "memory in a file has the huge pages of its file system: put the file on a hugetlbfs instead of asking for them here",
    );
  }
  using undo = new DisposableStack();
  try {
    if (hugePages === "2M") checkHuge(sizeBytes);
    if (file !== undefined) checkRoom("the machine's memory", file, sizeBytes);
    const holder = openHolder(sizeBytes, backing);
    if (holder !== undefined) {
      undo.use(holder);
      mapFile(address, sizeBytes, holder.fd);
    } else if (hugePages === "2M") {
      mapHuge(address, sizeBytes);
    }
    if (hugePages === "transparent") madvise(address, sizeBytes, Advice.HUGEPAGE);
    else if (hugePages === undefined && prefersHuge) preferHuge(address, sizeBytes);
    if (mergeable) madvise(address, sizeBytes, Advice.MERGEABLE);
    undo.move();
    return holder;
  } catch (cause) {
    if (cause instanceof MachineError) throw cause;
    const said = cause instanceof Error ? cause.message : String(cause);
    throw new MachineError("MACHINE_HOST", `the machine's memory: ${said}`, { cause });
  }
}

function preferHuge(address: number, sizeBytes: number): void {
  try {
    madvise(address, sizeBytes, Advice.HUGEPAGE);
  } catch {
    // This host's kernel has none, or the file's pages are what they are.
  }
}

/** Lays the files that are devices' memory where they have their place in the machine's. */
function mapDeviceMemory(address: number, placed: readonly PlacedMemory[]): void {
  for (const { memory, piece } of placed) {
    const { name, fd, sizeBytes, shared } = memory;
    try {
      if (shared) checkRoom("persistent memory", name, sizeBytes, `/proc/self/fd/${fd}`);
      mapFile(address + piece.offset, sizeBytes, fd, shared);
    } catch (cause) {
      if (cause instanceof MachineError) throw cause;
      throw new MachineError("MACHINE_HOST", `persistent memory in ${name}: ${(cause as Error).message}`, { cause });
    }
  }
}

/** Gives the pages of a memory that nobody uses any more back to the host, whatever they are of. */
export function releaseMemory({ buffer, sizeBytes, wasm }: GuestMemory): void {
  const flags = MapFlag.PRIVATE | MapFlag.ANONYMOUS | MapFlag.NORESERVE | MapFlag.FIXED;
  const protection = Protection.READ | Protection.WRITE;
  mmap({ address: addressOf(buffer), length: wasm?.buffer.byteLength ?? sizeBytes, protection, flags });
}

/** A page of a file for which its file system has no room ends the process (SIGBUS) when the guest touches it. */
function checkRoom(what: string, name: string, sizeBytes: number, path = name): void {
  const file = statSync(path, { throwIfNoEntry: false });
  const { bsize, blocks, bavail } = statfsSync(file === undefined ? dirname(path) : path);
  // File systems without an end of their own say that they have no blocks at all.
  if (blocks === 0) return;
  const freeBytes = bavail * bsize;
  const hasBytes = (file?.blocks ?? 0) * 512;
  if (sizeBytes - hasBytes <= freeBytes) return;
  throw new MachineError(
    "MACHINE_HOST",
    `${what} takes ${mib(sizeBytes - hasBytes)} in ${name}, and its file system has ${mib(freeBytes)} free`,
  );
}

function checkHuge(sizeBytes: number): void {
  const needed = sizeBytes / HUGE_PAGE;
  const free = freeHugePages();
  if (free < needed) {
    throw new MachineError(
      "MACHINE_HOST",
      `the machine's memory takes ${needed} huge pages of 2 MiB, and the host has ${free} free: reserve more ` +
        "(sysctl vm.nr_hugepages), or use transparent ones",
    );
  }
}

function mapHuge(address: number, sizeBytes: number): void {
  const flags = MapFlag.PRIVATE | MapFlag.ANONYMOUS | MapFlag.HUGETLB | MapFlag.FIXED;
  mmap({ address, length: sizeBytes, protection: Protection.READ | Protection.WRITE, flags });
}

function freeHugePages(): number {
  const folder = "/sys/kernel/mm/hugepages/hugepages-2048kB";
  try {
    return (
      Number(readFileSync(`${folder}/free_hugepages`, "latin1")) -
      Number(readFileSync(`${folder}/resv_hugepages`, "latin1"))
    );
  } catch {
    // This host has none of that size.
    return 0;
  }
}

/** The file that is to hold the memory; undefined for none. */
function openHolder(sizeBytes: number, { file, shared, hugePages }: MemoryBacking): Descriptor | undefined {
  if (file === undefined && !shared) return undefined;
  const flags = MemfdFlag.CLOEXEC | MemfdFlag.ALLOW_SEALING | (hugePages === "2M" ? MemfdFlag.HUGETLB : 0);
  const holder = new Descriptor(
    file === undefined
      ? memfdCreate("lodge-memory", flags)
      : open(file, OpenFlag.RDWR | OpenFlag.CREAT | OpenFlag.CLOEXEC, 0o600),
  );
  try {
    ftruncate(holder.fd, sizeBytes);
    // Who is given it cannot take it from under us: touching what is no longer there would end this process.
    if (file === undefined) addSeals(holder.fd, Seal.SHRINK | Seal.GROW | Seal.SEAL);
    return holder;
  } catch (error) {
    holder.close();
    throw error;
  }
}

function mapFile(address: number, sizeBytes: number, fd: number, shared = true): void {
  const flags = (shared ? MapFlag.SHARED : MapFlag.PRIVATE) | MapFlag.FIXED;
  mmap({ address, length: sizeBytes, protection: Protection.READ | Protection.WRITE, flags, fd });
}
