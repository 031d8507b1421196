/** What a user says of a machine, and what becomes of it once all of it is checked. */

import { availableParallelism } from "node:os";
import { getAffinity } from "@lodge/linux";
import { MachineLimits, type MemoryBacking, type NumaNode } from "@lodge/machine";
import { type Accelerator, parseAccelerator } from "../accelerator.ts";
import { checkDisks, type DiskOptions } from "../disks/options.ts";
import { VmmError } from "../errors.ts";
import type { SerialTarget } from "../serial.ts";
import { checkNetworks, DEFAULT_NETWORKS, type NetworkOptions } from "./networks.ts";
import type { PmemOptions } from "./pmem.ts";
import { formatSize, parseSize } from "./size.ts";

export interface MachineOptions {
  /**
   * What it is called: by QMP, and by the guest's host name. Letters, digits and hyphens. Where the image has a disk, the
   * machine keeps its own under this name, and goes on with it the next time.
   */
  readonly name?: string;
  /** An image by name. Default: `tiny`, unless there is a kernel. */
  readonly image?: string;
  /** A kernel's file: bzImage, vmlinux, PVH or Multiboot. Instead of an image. */
  readonly kernel?: string;
  readonly initrd?: string;
  /** The kernel's command line; with an image, what is added to the image's own. */
  readonly append?: string;
  /** Default: `auto`. */
  readonly accel?: Accelerator;
  /** The processor's model, such as `x86-64-v3` or `x86-64-v2,-aes`. Default: all that the accelerator has. */
  readonly cpu?: string;
  /** How many, or how they are arranged; what is left out of an arrangement is 1. Default: 1. */
  readonly cpus?: number | CpuOptions;
  /** `512M`, `4G`, or bytes. Default: 512M. */
  readonly memory?: string | number;
  /** What the memory is made of on the host: huge pages, a file, pages that may be merged. Default: plain memory. */
  readonly memoryBacking?: MemoryBacking;
  /** How memory and vCPUs are divided into NUMA nodes. Default: the guest is not told of any. */
  readonly numa?: readonly NumaNode[];
  /** Disks, which the guest finds as /dev/vda, /dev/vdb and on. */
  readonly disks?: readonly DiskOptions[];
  /** Files among the guest's addresses, which it finds as /dev/pmem0 and on. */
  readonly pmem?: readonly PmemOptions[];
  /** Its network cards, and what each is connected to. Default: one, with user-mode NAT. */
  readonly networks?: readonly NetworkOptions[];
  /** Folders of the host that the guest has, too. */
  readonly shares?: readonly ShareOptions[];
  /** What the guest writes on its serial console. Default: nowhere. */
  readonly console?: (bytes: Uint8Array) => void;
  /** Where the serial console leads beside that: a file, or a terminal for other programs ({@link Machine.serialPath}). */
  readonly serial?: SerialTarget;
  /** PCI cards with a serial port each, and where each leads ({@link Machine.serialCardPaths}). Default: none. */
  readonly serialCards?: readonly SerialTarget[];
  /** A port whose writes end the machine with a status, as QEMU's isa-debug-exit does. */
  readonly debugExitPort?: number;
  /** The devices that kvm-unit-tests need. */
  readonly testDevice?: boolean;
  /** What the guest writes to port 0xe9. */
  readonly debugConsole?: (bytes: Uint8Array) => void;
  /** Where GDB can attach, on the loopback address. */
  readonly gdbPort?: number;
  /** Nothing stays of the disk that the image has, although the machine has a name. Default: false. */
  readonly ephemeral?: boolean;
  /** A Unix socket on which QEMU's machine protocol is spoken. */
  readonly qmp?: string;
  /** What a reset does, the guest's or {@link Machine.reset}. Default: the guest begins anew. */
  readonly onReset?: "restart" | "end";
  /** What becomes of a guest whose kernel says that it has panicked. Default: that is the machine's end. */
  readonly onPanic?: "end" | "continue";
  /** Told each step of a start that takes long, such as building the image. */
  readonly progress?: (step: string) => void;
  readonly signal?: AbortSignal;
}

export interface CpuOptions {
  readonly count: number;
  readonly sockets?: number;
  readonly cores?: number;
  readonly threads?: number;
  /** The host processors that each vCPU may run on, by number. Default, and for those left out or undefined: all. */
  readonly affinity?: readonly (readonly number[] | undefined)[];
}

export interface ShareOptions {
  /** The host's folder: the guest sees it and what is in it, and nothing else of the host. */
  readonly folder: string;
  /** What the guest mounts it by (virtiofs); our images do so by themselves, at /mnt/TAG. */
  readonly tag: string;
  /** The guest cannot write. Default: false. */
  readonly readonly?: boolean;
}

const DEFAULT_MEMORY = "512M";

export interface CheckedOptions {
  readonly accel: Accelerator;
  readonly memoryBytes: number;
  readonly backing: MemoryBacking | undefined;
  readonly nodes: readonly NumaNode[] | undefined;
  readonly cpus: {
    count: number;
    topology?: { sockets: number; cores: number; threads: number };
    affinity?: readonly (readonly number[])[];
  };
  /** Undefined when the kernel is the user's. */
  readonly image: string | undefined;
  readonly networks: readonly NetworkOptions[];
  readonly disks: readonly DiskOptions[];
  readonly shares: readonly ShareOptions[];
  readonly pmem: readonly PmemOptions[];
}

/** A label of a host name (RFC 1123, 2.1). */
const NAME = /^[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/;

/** Checks all of it before anything is made. */
export function checkOptions(options: MachineOptions): CheckedOptions {
  const { image, kernel, initrd, name } = options;
  if (name !== undefined && !NAME.test(name)) {
    refuse(`name ${JSON.stringify(name)}: 1 to 63 letters, digits and hyphens, as in a host name`);
  }
  const accel = parseAccelerator(options.accel ?? "auto");
  const { gdbPort } = options;
  if (gdbPort !== undefined && !(Number.isInteger(gdbPort) && gdbPort >= 0 && gdbPort < 65536)) {
    refuse(`gdb port ${gdbPort}: a port is 1 to 65535, or 0 for any that is free`);
  }
  if (image !== undefined && kernel !== undefined) {
    refuse(`an image (${image}) and a kernel (${kernel}): one of them is what the machine starts from`);
  }
  if (kernel === undefined && initrd !== undefined) {
    refuse(`an initrd (${initrd}) without a kernel: an image has its own`);
  }
  const networks = checkNetworks(options.networks ?? DEFAULT_NETWORKS);
  const { pmem = [] } = options;
  if (pmem.length > 0 && networks.some(({ mode }) => mode === "vhost-user")) {
    refuse(`persistent memory (${pmem[0]!.file}) and a vhost-user card, whose server would not see it: one of the two`);
  }
  return {
    accel,
    memoryBytes: checkMemory(options.memory ?? DEFAULT_MEMORY),
    backing: options.memoryBacking,
    nodes: options.numa,
    cpus: checkCpus(options.cpus ?? 1),
    image: kernel === undefined ? (image ?? "tiny") : undefined,
    disks: checkDisks(options.disks ?? []),
    networks,
    pmem,
    shares: checkShares(options.shares ?? []),
  };
}

function refuse(message: string): never {
  throw new VmmError("VMM_CONFIG", message);
}

function checkMemory(wanted: string | number): number {
  const bytes = parseSize(wanted, "memory");
  if (bytes < MachineLimits.SMALLEST_MEMORY || bytes % MachineLimits.MEMORY_GRAIN !== 0) {
    refuse(
      `memory ${wanted}: a machine has at least ${formatSize(MachineLimits.SMALLEST_MEMORY)}, in steps of ${formatSize(MachineLimits.MEMORY_GRAIN)}`,
    );
  }
  if (bytes > MachineLimits.LARGEST_MEMORY) {
    refuse(`memory ${wanted}: a machine has at most ${formatSize(MachineLimits.LARGEST_MEMORY)}`);
  }
  return bytes;
}

/** A tag is a folder's name and a word of the kernel's command line, too. */
const TAG = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,35}$/;

function checkShares(shares: readonly ShareOptions[]): readonly ShareOptions[] {
  for (const [index, { folder, tag }] of shares.entries()) {
    if (!TAG.test(tag))
      refuse(
        `share ${folder}: its tag ${JSON.stringify(tag)} is not 1 to 36 letters, digits, dots, dashes and underscores`,
      );
    const other = shares.slice(0, index).find((before) => before.tag === tag);
    if (other !== undefined) refuse(`the shares ${other.folder} and ${folder} have one tag, ${tag}`);
  }
  return shares;
}

function checkCpus(wanted: number | CpuOptions): CheckedOptions["cpus"] {
  const { count, affinity, ...arranged }: CpuOptions = typeof wanted === "number" ? { count: wanted } : wanted;
  const { sockets = 1, cores = 1, threads = 1 } = arranged;
  for (const value of [count, sockets, cores, threads]) {
    if (!Number.isInteger(value) || value < 1 || value > MachineLimits.MOST_CPUS) {
      refuse(
        `${value} vCPUs: a machine has 1 to ${MachineLimits.MOST_CPUS} (this host has ${availableParallelism()} processors)`,
      );
    }
  }
  const pinned = affinity === undefined ? {} : { affinity: checkAffinity(affinity, count) };
  if (Object.keys(arranged).length === 0) return { count, ...pinned };
  if (sockets * cores * threads !== count) {
    refuse(`${count} vCPUs are not ${sockets} sockets of ${cores} cores of ${threads} threads`);
  }
  return { count, topology: { sockets, cores, threads }, ...pinned };
}

function checkAffinity(wanted: readonly (readonly number[] | undefined)[], count: number): (readonly number[])[] {
  if (wanted.length > count) refuse(`vCPU ${wanted.length - 1} is pinned: the machine's are 0 to ${count - 1}`);
  const all = getAffinity(0);
  const missing = wanted.flatMap((list) => list ?? []).find((processor) => !all.includes(processor));
  if (missing !== undefined) {
    refuse(`a vCPU is pinned to host processor ${missing}, where this process may not run: it has ${all.join(", ")}`);
  }
  return Array.from({ length: count }, (_, index) => wanted[index] ?? all);
}
