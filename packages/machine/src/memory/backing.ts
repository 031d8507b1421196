/** What a machine's memory is made of on the host, where it shall not be plain anonymous memory. */

import { ftruncateSync, readFileSync } from "node:fs";
import type { GuestMemory } from "@lodge/kvm";
import { Advice, addressOf, close, MapFlag, madvise, mmap, OpenFlag, open, Protection } from "@lodge/linux";
import { MachineError } from "../errors.ts";

export interface MemoryBacking {
  /**
   * Huge pages of the host: `2M` takes them from those that the administrator has reserved, all at once; `transparent`
   * asks the kernel to use them where it can.
   */
  readonly hugePages?: "2M" | "transparent";
  /** A file that holds the memory, shared with whoever else maps it. It is made as long as the memory. */
  readonly file?: string;
  /** The host may merge equal pages with those of other machines (KSM). */
  readonly mergeable?: boolean;
}

const HUGE_PAGE = 2 * 2 ** 20;

/** Lays the machine's memory over what backs it. Before anything is in it. */
export function backMemory(memory: GuestMemory, sizeBytes: number, backing: MemoryBacking): void {
  const { hugePages, file, mergeable = false } = backing;
  if (file !== undefined && hugePages === "2M") {
    throw new MachineError(
      "MACHINE_INVALID",
      "memory in a file has the huge pages of its file system: put the file on a hugetlbfs instead of asking for them here",
    );
  }
  const address = addressOf(memory.buffer);
  try {
    if (hugePages === "2M") mapHuge(address, sizeBytes);
    if (file !== undefined) mapFile(address, sizeBytes, file);
    if (hugePages === "transparent") madvise(address, sizeBytes, Advice.HUGEPAGE);
    if (mergeable) madvise(address, sizeBytes, Advice.MERGEABLE);
  } catch (cause) {
    if (cause instanceof MachineError) throw cause;
    const said = cause instanceof Error ? cause.message : String(cause);
    throw new MachineError("MACHINE_HOST", `the machine's memory: ${said}`, { cause });
  }
}

/** Gives the pages of a memory that nobody uses any more back to the host, whatever they are of. */
export function releaseMemory({ buffer, sizeBytes, wasm }: GuestMemory): void {
  const flags = MapFlag.PRIVATE | MapFlag.ANONYMOUS | MapFlag.NORESERVE | MapFlag.FIXED;
  const protection = Protection.READ | Protection.WRITE;
  mmap({ address: addressOf(buffer), length: wasm?.buffer.byteLength ?? sizeBytes, protection, flags });
}

function mapHuge(address: number, sizeBytes: number): void {
  const needed = sizeBytes / HUGE_PAGE;
  const free = freeHugePages();
  if (free < needed) {
    throw new MachineError(
      "MACHINE_HOST",
      `the machine's memory takes ${needed} huge pages of 2 MiB, and the host has ${free} free: reserve more ` +
        "(sysctl vm.nr_hugepages), or use transparent ones",
    );
  }
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

function mapFile(address: number, sizeBytes: number, path: string): void {
  const fd = open(path, OpenFlag.RDWR | OpenFlag.CREAT | OpenFlag.CLOEXEC, 0o600);
  try {
    ftruncateSync(fd, sizeBytes);
    const flags = MapFlag.SHARED | MapFlag.FIXED;
    mmap({ address, length: sizeBytes, protection: Protection.READ | Protection.WRITE, flags, fd });
  } finally {
    close(fd);
  }
}
