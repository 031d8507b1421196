/** What a user says of a machine, and what becomes of it once all of it is checked. */

import { readFile, stat } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { MachineLimits } from "@lodge/machine";
import { type Accelerator, parseAccelerator } from "../accelerator.ts";
import { VmmError } from "../errors.ts";
import { formatSize, parseSize } from "./size.ts";

export interface MachineOptions {
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
  /** Disks, which the guest finds as /dev/vda, /dev/vdb and on. */
  readonly disks?: readonly DiskOptions[];
  /** What the guest writes on its serial console. Default: nowhere. */
  readonly console?: (bytes: Uint8Array) => void;
  /** A port whose writes end the machine with a status, as QEMU's isa-debug-exit does. */
  readonly debugExitPort?: number;
  /** The devices that kvm-unit-tests need. */
  readonly testDevice?: boolean;
  /** What the guest writes to port 0xe9. */
  readonly debugConsole?: (bytes: Uint8Array) => void;
  /** Where GDB can attach, on the loopback address. */
  readonly gdbPort?: number;
  /** Told each step of a start that takes long, such as building the image. */
  readonly progress?: (step: string) => void;
  readonly signal?: AbortSignal;
}

export interface CpuOptions {
  readonly count: number;
  readonly sockets?: number;
  readonly cores?: number;
  readonly threads?: number;
}

export interface DiskOptions {
  /** A file that is a disk byte for byte. */
  readonly file: string;
  /** The guest cannot write, and the file is opened for reading only. Default: false. */
  readonly readonly?: boolean;
  /** What the guest finds it by, in /dev/disk/by-id for one: up to 20 characters of ASCII. Default: none. */
  readonly serial?: string;
}

const DEFAULT_MEMORY = "512M";

export interface CheckedOptions {
  readonly accel: Accelerator;
  readonly memoryBytes: number;
  readonly cpus: { count: number; topology?: { sockets: number; cores: number; threads: number } };
  /** Undefined when the kernel is the user's. */
  readonly image: string | undefined;
  readonly disks: readonly DiskOptions[];
  readonly kernel: Buffer | undefined;
  readonly initrd: Buffer | undefined;
}

/** Checks all of it before anything is made, and reads the files that it names. */
export async function checkOptions(options: MachineOptions): Promise<CheckedOptions> {
  const { image, kernel, initrd } = options;
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
  return {
    accel,
    memoryBytes: checkMemory(options.memory ?? DEFAULT_MEMORY),
    cpus: checkCpus(options.cpus ?? 1),
    image: kernel === undefined ? (image ?? "tiny") : undefined,
    kernel: kernel === undefined ? undefined : await read(kernel, "kernel"),
    initrd: initrd === undefined ? undefined : await read(initrd, "initrd"),
    disks: checkDisks(options.disks ?? []),
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
  return bytes;
}

function checkDisks(disks: readonly DiskOptions[]): readonly DiskOptions[] {
  const serials = new Map<string, string>();
  for (const { file, serial } of disks) {
    if (file === "") refuse("a disk without a file");
    if (serial === undefined) continue;
    if (!/^[ -~]{1,20}$/.test(serial))
      refuse(`disk ${file}: its serial ${JSON.stringify(serial)} is not 1 to 20 characters of ASCII`);
    const other = serials.get(serial);
    if (other !== undefined)
      refuse(`the disks ${other} and ${file} have one serial, ${serial}: the guest could not tell them apart`);
    serials.set(serial, file);
  }
  return disks;
}

function checkCpus(wanted: number | CpuOptions): CheckedOptions["cpus"] {
  const { count, ...arranged } = typeof wanted === "number" ? { count: wanted } : wanted;
  const { sockets = 1, cores = 1, threads = 1 } = arranged as CpuOptions;
  for (const value of [count, sockets, cores, threads]) {
    if (!Number.isInteger(value) || value < 1 || value > MachineLimits.MOST_CPUS) {
      refuse(
        `${value} vCPUs: a machine has 1 to ${MachineLimits.MOST_CPUS} (this host has ${availableParallelism()} processors)`,
      );
    }
  }
  if (Object.keys(arranged).length === 0) return { count };
  if (sockets * cores * threads !== count) {
    refuse(`${count} vCPUs are not ${sockets} sockets of ${cores} cores of ${threads} threads`);
  }
  return { count, topology: { sockets, cores, threads } };
}

async function read(path: string, what: string): Promise<Buffer> {
  try {
    // A device or a pipe may have no end.
    if (!(await stat(path)).isFile()) return refuse(`${what} ${path} is no file`);
    return await readFile(path);
  } catch (error) {
    if (error instanceof VmmError) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    const why = code === "ENOENT" ? "there is no such file" : code === "EACCES" ? "it cannot be read" : message;
    throw new VmmError("VMM_CONFIG", `${what} ${path}: ${why}`, { cause: error });
  }
}
