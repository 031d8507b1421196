/**
 * A virtio device as a PCI function (virtio 1.2, 4.1): identity, capabilities, and the BARs, of the device's registers and of
 * the MSI-X table. A transitional one has a third BAR, for drivers from before virtio 1. The vCPUs' threads have a
 * {@link VirtioFunction}, the I/O thread a {@link VirtioPort}.
 */

import {
  COMMON_LENGTH,
  DeviceType,
  type InterruptLine,
  LEGACY_LENGTH,
  LegacyRegisters,
  NOTIFY_MULTIPLIER,
  type RegisterEvents,
  type Registers,
  type VirtioRegion,
  VirtioRegisters,
  type VirtioRegistersHandle,
} from "@lodge/devices/vcpu-side";
import type { Msi, NotifierHandle } from "@lodge/kvm";
import type { PciFunction } from "../pci/bus.ts";
import { ConfigSpace, type FunctionLayout, msixBarBytes } from "../pci/config-space.ts";
import { BARS, Capability, Config } from "../pci/layout.ts";
import { MsixTable } from "../pci/msix.ts";
import type { Doorbells, DoorbellsHandle } from "./doorbells.ts";

/** A device's function as a value that can be posted to the vCPUs' threads. */
export interface VirtioFunctionHandle {
  readonly slot: number;
  readonly registers: VirtioRegistersHandle;
  readonly config: SharedArrayBuffer;
  readonly msix: SharedArrayBuffer;
  readonly doorbells: DoorbellsHandle;
  /** Wakes the I/O thread for what the driver set. */
  readonly notifier: NotifierHandle;
}

/** The BARs behind the first, in which drivers from before virtio 1 look for the registers that they know. */
const MSIX_BAR = 1;
const REGISTERS_BAR = 2;

/** Where the structures lie in their BAR. Pages apart, so that doorbells have one of their own. */
const Region = {
  common: { start: 0x0000, sizeBytes: 0x1000 },
  isr: { start: 0x1000, sizeBytes: 0x1000 },
  device: { start: 0x2000, sizeBytes: 0x1000 },
  notify: { start: 0x3000, sizeBytes: 0x1000 },
} as const;
const REGISTERS_BYTES = 0x4000;

/** cfg_type of the capabilities (4.1.4). */
const ConfigType = { common: 1, notify: 2, isr: 3, device: 4, PCI: 5 } as const;

/** struct virtio_pci_cap, from its start: the window of 4.1.4.9 is the last of ours, and these fields of it are written. */
const WindowField = { BAR: 4, OFFSET: 8, LENGTH: 12, DATA: 16 } as const;

const VIRTIO_VENDOR = 0x1af4;
/** Modern devices: 0x1040 and the device type (4.1.2.1). */
const DEVICE_BASE = 0x1040;
const MODERN_REVISION = 1;
const SUBSYSTEM = 0x40;
/** What there was before virtio 1, by device type (4.1.2.3). Those have revision 0, and the type is their subsystem. */
const TRANSITIONAL_DEVICES = new Map<number, number>([
  [DeviceType.NET, 0x1000],
  [DeviceType.BLOCK, 0x1001],
  [DeviceType.BALLOON, 0x1002],
  [DeviceType.CONSOLE, 0x1003],
  [DeviceType.ENTROPY, 0x1005],
  [DeviceType.P9, 0x1009],
]);
/** How long a driver from before virtio 1 waits for its reset at most, in milliseconds: a host's disk may take long. */
const RESET_LIMIT = 10_000;

/** Class codes by device type; what has none is a system peripheral of no kind. */
const CLASS_CODES = new Map<number, number>([
  [DeviceType.NET, 0x020000],
  [DeviceType.BLOCK, 0x010000],
  [DeviceType.CONSOLE, 0x078000],
  [DeviceType.VSOCK, 0x028000],
  [DeviceType.P9, 0x018000],
  [DeviceType.FS, 0x018000],
]);
const OTHER_CLASS = 0x00ff00;

export function virtioLayout(registers: VirtioRegistersHandle): FunctionLayout {
  const { type, vectors } = registers;
  const capability = (region: VirtioRegion, length: number, ...further: number[]) =>
    structure(ConfigType[region], REGISTERS_BAR, Region[region].start, length, ...further);
  const queues = registers.queueSizes.length;
  const transitional = transitionalDevice(registers);
  return {
    identity: {
      vendor: VIRTIO_VENDOR,
      device: transitional ?? DEVICE_BASE + type,
      revision: transitional === undefined ? MODERN_REVISION : 0,
      classCode: CLASS_CODES.get(type) ?? OTHER_CLASS,
      subsystemVendor: VIRTIO_VENDOR,
      subsystem: transitional === undefined ? SUBSYSTEM : type,
    },
    bars: [
      transitional === undefined ? undefined : { kind: "io", sizeBytes: legacyBarBytes(registers) },
      { kind: "memory", sizeBytes: msixBarBytes(vectors) },
      { kind: "memory", sizeBytes: REGISTERS_BYTES },
    ],
    interruptPin: true,
    msix: { vectors, bar: MSIX_BAR },
    capabilities: [
      capability("common", COMMON_LENGTH),
      capability("notify", queues * NOTIFY_MULTIPLIER, ...word(NOTIFY_MULTIPLIER)),
      capability("isr", 1),
      ...(registers.configLength > 0 ? [capability("device", registers.configLength)] : []),
      structure(ConfigType.PCI, 0, 0, 0, ...word(0)),
    ],
  };
}

/** Its PCI device, if it can be had by drivers from before virtio 1. */
function transitionalDevice({ type, isTransitional }: VirtioRegistersHandle): number | undefined {
  return isTransitional ? TRANSITIONAL_DEVICES.get(type) : undefined;
}

function legacyBarBytes({ configLength }: VirtioRegistersHandle): number {
  return 2 ** Math.ceil(Math.log2(LEGACY_LENGTH + configLength));
}

/** struct virtio_pci_cap (4.1.4): the pointer to the next, its second byte, is configuration space's own. */
function structure(type: number, bar: number, offset: number, length: number, ...further: number[]): Uint8Array {
  const bytes = 16 + further.length;
  return Uint8Array.of(Capability.VENDOR, bytes, type, bar, 0, 0, 0, ...word(offset), ...word(length), ...further);
}

function word(value: number): number[] {
  return [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
}

export interface FunctionWires {
  readonly pin: InterruptLine;
  readonly send: (message: Msi) => void;
  readonly doorbells: Doorbells;
  /** Wakes the I/O thread. */
  readonly wake: () => void;
}

export class VirtioFunction implements PciFunction {
  readonly slot: number;
  readonly space: ConfigSpace;
  readonly bars: readonly (Registers | undefined)[];
  readonly msix: MsixTable;
  readonly #doorbells: Doorbells;
  /** Where the window of 4.1.4.9 is in configuration space. */
  readonly #window: number;

  constructor(handle: VirtioFunctionHandle, { pin, send, doorbells, wake }: FunctionWires, fresh = false) {
    const { registers } = handle;
    this.slot = handle.slot;
    this.#doorbells = doorbells;
    this.space = new ConfigSpace(handle.config, virtioLayout(registers), fresh);
    this.msix = new MsixTable(handle.msix, this.space, send);
    const events: RegisterEvents = {
      control: wake,
      notify: (queue) => doorbells.ring(queue),
      lowerLine: () => {
        this.space.showInterrupt(false);
        pin.set(false);
      },
    };
    this.bars = [
      transitionalDevice(registers) === undefined ? undefined : legacyOf(registers, events, this.msix),
      this.msix,
      regionsOf(new VirtioRegisters(registers, events)),
    ];
    this.#window = this.space.capabilitiesAt.at(-1)!;
    this.space.allow(this.#window + WindowField.BAR, Uint8Array.of(0xff));
    this.space.allow(this.#window + WindowField.OFFSET, new Uint8Array(12).fill(0xff));
  }

  readConfig(offset: number, _size: number): undefined {
    const access = this.#windowAccess(offset);
    if (access === undefined) return;
    const value = access.registers.read(access.offset, access.size);
    this.space.write(this.#window + WindowField.DATA, access.size, value);
  }

  configWritten(offset: number): void {
    if (offset < Config.BAR + 4 * BARS) this.placeDoorbells();
    if (offset >= this.space.msixAt && offset < this.space.msixAt + 4) this.msix.controlWritten();
    const access = this.#windowAccess(offset);
    const data = this.#window + WindowField.DATA;
    if (access !== undefined) access.registers.write(access.offset, access.size, this.space.read(data, access.size));
  }

  /** Hangs the doorbells where the registers' BAR is now. */
  placeDoorbells(): void {
    this.#doorbells.follow(() => {
      const bar = this.space.barAddress(REGISTERS_BAR);
      return bar === undefined ? undefined : bar + Region.notify.start;
    });
  }

  /** A BAR's registers by configuration space, for whoever cannot reach memory: bar, offset and length are in the window. */
  #windowAccess(offset: number): { registers: Registers; offset: number; size: number } | undefined {
    const data = this.#window + WindowField.DATA;
    if (offset < data || offset >= data + 4) return undefined;
    const registers = this.bars[this.space.read(this.#window + WindowField.BAR, 1)];
    const at = this.space.read(this.#window + WindowField.OFFSET, 4);
    const size = this.space.read(this.#window + WindowField.LENGTH, 4);
    if (registers === undefined || (size !== 1 && size !== 2 && size !== 4) || at % size !== 0) return undefined;
    return { registers, offset: at, size };
  }
}

/** The BAR of a transitional device. */
function legacyOf(registers: VirtioRegistersHandle, events: RegisterEvents, msix: MsixTable): Registers {
  return new LegacyRegisters(registers, events, {
    get messages() {
      return msix.isEnabled;
    },
    wait: (words, word) => void Atomics.wait(words, word, 1, RESET_LIMIT),
  });
}

/** The registers' BAR: which structure an offset is in. */
function regionsOf(answers: VirtioRegisters): Registers {
  const find = (offset: number) => REGIONS[Math.floor(offset / 0x1000)];
  return {
    read: (offset, size) => {
      const region = find(offset);
      return region === undefined ? 0 : answers.read(region, offset - Region[region].start, size);
    },
    write: (offset, size, value) => {
      const region = find(offset);
      if (region !== undefined) answers.write(region, offset - Region[region].start, size, value);
    },
  };
}

const REGIONS = ["common", "isr", "device", "notify"] as const;
