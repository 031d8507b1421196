/** What a machine is made from. Everything is checked before anything is created. */

import { DEVICE_MEMORY_GRAIN, type VirtioDevice } from "@lodge/devices";
import type { HypervisorKind } from "@lodge/kvm";
import type { BootContent } from "./boot/boot-source.ts";
import type { BootModule, UnpackedKernels } from "./boot/loader.ts";
import { MachineError } from "./errors.ts";
import type { MemoryBacking } from "./memory/backing.ts";
import { type NumaNode, nodesFault } from "./memory/nodes.ts";
import { SLOTS } from "./pci/bus.ts";
import type { Topology } from "./vcpu/cpuid.ts";

export interface PcDescription {
  /** `kvm`: the processor itself, by /dev/kvm. `soft`: the processor in software. */
  readonly accelerator: HypervisorKind;
  /** RAM in bytes: a multiple of 2 MiB, from 16 MiB. */
  readonly memoryBytes: number;
  readonly cpus: CpuDescription;
  /** What its memory is made of on the host. Default: plain anonymous memory. */
  readonly memoryBacking?: MemoryBacking;
  /** NUMA nodes. Default: none are told of. */
  readonly nodes?: readonly NumaNode[];
  /** A Linux bzImage or vmlinux, or another kernel that boots by PVH or Multiboot: the file's content. */
  readonly kernel: BootContent;
  /** Where what a bzImage unpacks to is kept, if it is known by a name. Default: it is unpacked for each machine. */
  readonly unpackedKernels?: UnpackedKernels;
  /** A folder where the software processor keeps what it made of a guest's code. Default: each machine begins anew. */
  readonly codeCache?: string;
  /** Its command line. Default: empty. */
  readonly commandLine?: string;
  readonly initrd?: BootContent;
  /** Further modules of a Multiboot kernel. */
  readonly modules?: readonly BootModule[];
  /** Where the serial ports' output goes: COM1, COM2. Default: COM1 alone, into nothing. */
  readonly serial?: readonly ByteSink[];
  /** PCI cards with a serial port each, and where their output goes. Default: none. */
  readonly serialCards?: readonly ByteSink[];
  /** What the guest writes to port 0xe9. */
  readonly debugConsole?: ByteSink;
  /** A port whose writes end the machine with a status: QEMU's isa-debug-exit, which is mostly at 0xf4. */
  readonly debugExitPort?: number;
  /**
   * Virtio devices, as PCI functions from slot 1 on, in this order; a slot without one is empty. They are one machine's at a time.
   */
  readonly virtio?: readonly (VirtioDevice | undefined)[];
  /** kvm-unit-tests' pc-testdev. */
  readonly testDevice?: boolean;
}

export interface CpuDescription {
  readonly count: number;
  /** A model such as `x86-64-v2`, the same on every accelerator that has its features; default `host`: all there are. */
  readonly model?: string;
  /** How they are arranged; the product is `count`. Default: as many sockets as vCPUs. */
  readonly topology?: Topology;
  /** The host processors that each vCPU's thread may run on, by number. Default: all. */
  readonly affinity?: readonly (readonly number[])[];
}

/** Takes bytes on the event loop of the thread that made the machine. They are its own: nobody changes them later. */
export type ByteSink = (bytes: Uint8Array) => void;

/** What every machine keeps to. */
export const MachineLimits = {
  SMALLEST_MEMORY: 16 * 2 ** 20,
  /** What the hypervisors take, and guests' addresses are laid out for. */
  LARGEST_MEMORY: 512 * 2 ** 30,
  /** The steps in which memory is given. */
  MEMORY_GRAIN: 2 * 2 ** 20,
  /** Above this, APIC ids need 32-bit destinations, which nothing here configures. */
  MOST_CPUS: 254,
} as const;

export function checkDescription(description: PcDescription): void {
  const { memoryBytes, cpus, serial = [], debugExitPort = 0, virtio = [], serialCards = [], nodes } = description;
  const refuse = (message: string): never => {
    throw new MachineError("MACHINE_INVALID", message);
  };
  if (
    !Number.isSafeInteger(memoryBytes) ||
    memoryBytes < MachineLimits.SMALLEST_MEMORY ||
    memoryBytes % MachineLimits.MEMORY_GRAIN !== 0
  ) {
    refuse(`${memoryBytes} bytes of memory: a machine has at least 16 MiB, in steps of 2 MiB`);
  }
  for (const { memory } of virtio.filter((device) => device !== undefined)) {
    if (memory !== undefined && (memory.sizeBytes === 0 || memory.sizeBytes % DEVICE_MEMORY_GRAIN !== 0)) {
      refuse(`${memory.name} has ${memory.sizeBytes} bytes: persistent memory is a multiple of 2 MiB`);
    }
  }
  const { count, topology } = cpus;
  if (!Number.isInteger(count) || count < 1 || count > MachineLimits.MOST_CPUS) {
    refuse(`${count} vCPUs: a machine has 1 to ${MachineLimits.MOST_CPUS}`);
  }
  if (topology !== undefined) {
    const { sockets, cores, threads } = topology;
    const whole = [sockets, cores, threads].every((value) => Number.isInteger(value) && value > 0);
    if (!whole || sockets * cores * threads !== count) {
      refuse(`${sockets} sockets of ${cores} cores of ${threads} threads are not ${count} vCPUs`);
    }
  }
  const { affinity } = cpus;
  if (affinity !== undefined && (affinity.length !== count || affinity.some((list) => list.length === 0))) {
    refuse(`host processors for ${affinity.length} vCPUs: each of the ${count} needs at least one`);
  }
  const fault = nodes && nodesFault(nodes, memoryBytes, count);
  if (fault !== undefined) refuse(`NUMA: ${fault}`);
  const devices = virtio.length + serialCards.length;
  if (devices >= SLOTS) refuse(`${devices} virtio devices and serial cards: there are ${SLOTS - 1} slots`);
  if (serial.length > 2) refuse(`${serial.length} serial ports: a machine has COM1 and COM2`);
  if (!Number.isInteger(debugExitPort) || debugExitPort < 0 || debugExitPort > 0xffff) {
    refuse(`debug exit port ${debugExitPort}: a port is 0 to 0xffff`);
  }
}
