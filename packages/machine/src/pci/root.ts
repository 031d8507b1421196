/** The machine's PCI: bus 0 with the host bridge in slot 0 and the devices' functions behind it, as each thread makes it. */

import type { InterruptLine, Registers } from "@lodge/devices";
import type { Hypervisor, Msi, Vm } from "@lodge/kvm";
import type { Bus } from "../bus/bus.ts";
import { Port } from "../chipset.ts";
import { PCI_PORTS, PCI_WINDOW } from "../memory/address-map.ts";
import { Doorbells } from "../virtio/doorbells.ts";
import { VirtioFunction, type VirtioFunctionHandle } from "../virtio/function.ts";
import { PciBus, type PciFunction } from "./bus.ts";
import { ConfigSpace, type FunctionLayout } from "./config-space.ts";
import { HOTPLUG_PORTS, PciHotplug } from "./hotplug.ts";
import { PciLines } from "./lines.ts";
import { SerialCard, type SerialCardHandle } from "./serial-card.ts";

/** The machine's PCI as a value that can be posted to other threads. */
export interface PciHandle {
  readonly bus: SharedArrayBuffer;
  readonly lines: SharedArrayBuffer;
  readonly hotplug: SharedArrayBuffer;
  readonly bridge: SharedArrayBuffer;
  readonly functions: readonly VirtioFunctionHandle[];
  readonly serialCards: readonly SerialCardHandle[];
}

/** What a vCPU's thread is sent of a slot: the function that it has now, or that it has none. */
export interface Plug {
  readonly slot: number;
  readonly function: VirtioFunctionHandle | undefined;
}

/** Red Hat's generic host bridge, which every system takes as it is. */
const BRIDGE: FunctionLayout = {
  identity: {
    vendor: 0x1b36,
    device: 0x0008,
    revision: 0,
    classCode: 0x060000,
    subsystemVendor: 0x1af4,
    subsystem: 0x1100,
  },
  bars: [],
  interruptPin: false,
  capabilities: [],
};

export function createBridge(): SharedArrayBuffer {
  const shared = ConfigSpace.create();
  new ConfigSpace(shared, BRIDGE, true);
  return shared;
}

export interface PciWires {
  readonly hypervisor: Hypervisor;
  readonly vm: Vm;
  readonly line: (gsi: number) => InterruptLine;
  readonly send: (message: Msi) => void;
  /** Takes the next of the messages about slots. */
  readonly nextPlug: () => Plug | undefined;
  /** Nothing in this thread knows of a slot's function any more. */
  readonly released: (slot: number) => void;
  /** Something waits for the I/O thread. */
  readonly wakeHost: () => void;
}

/**
 * Puts a machine's PCI on a thread's buses. What it opens is added to `resources`. Returns what takes the messages about slots:
 * an access of the guest does so as well.
 */
export function connectPci(
  handle: PciHandle,
  { ports, memory, resetControl }: { ports: Bus; memory: Bus; resetControl: Registers },
  { hypervisor, vm, line, send, nextPlug, released, wakeHost }: PciWires,
  resources: DisposableStack,
): () => void {
  const lines = new PciLines(handle.lines, line);
  const bridge: PciFunction = { slot: 0, space: new ConfigSpace(handle.bridge, BRIDGE), bars: [] };
  /** What is open for each slot's function. */
  const open = new Map<number, DisposableStack>();
  resources.defer(() => {
    for (const one of open.values()) one.dispose();
  });
  const attach = (one: VirtioFunctionHandle): VirtioFunction => {
    const own = new DisposableStack();
    open.set(one.slot, own);
    const notifier = own.use(hypervisor.attachNotifier(one.notifier));
    const doorbells = own.use(new Doorbells(hypervisor, vm, one.doorbells));
    return new VirtioFunction(one, { pin: lines.pinA(one.slot), send, doorbells, wake: () => notifier.signal() });
  };
  const settle = () => {
    for (let plug = nextPlug(); plug !== undefined; plug = nextPlug()) {
      bus.put(plug.slot, plug.function && attach(plug.function));
      if (plug.function !== undefined) continue;
      open.get(plug.slot)?.dispose();
      open.delete(plug.slot);
      released(plug.slot);
    }
  };
  const cards = handle.serialCards.map((card) => {
    return new SerialCard(card, { pin: lines.pinA(card.slot), send, wakeHost });
  });
  const bus = new PciBus(handle.bus, [bridge, ...cards, ...handle.functions.map(attach)], resetControl, settle);
  bus.connect(ports, memory);
  const hotplug = new PciHotplug(handle.hotplug, (slots) => {
    PciBus.emptied(handle.bus, slots);
    wakeHost();
  });
  ports.add(Port.PCI_HOTPLUG, HOTPLUG_PORTS, hotplug);
  return settle;
}

/** Gives every BAR a place, as firmware would; a guest may move them. */
export function placeBars(functions: readonly PciFunction[]): void {
  const end = { memory: PCI_WINDOW.start + PCI_WINDOW.sizeBytes, io: PCI_PORTS.end };
  const next: Record<keyof typeof end, number> = { memory: PCI_WINDOW.start, io: PCI_PORTS.start };
  for (const { space } of functions) {
    for (const [index, bar] of space.layout.bars.entries()) {
      if (bar === undefined) continue;
      const where = bar.kind === "io" ? "io" : "memory";
      const address = Math.ceil(next[where] / bar.sizeBytes) * bar.sizeBytes;
      next[where] = address + bar.sizeBytes;
      if (next[where] > end[where]) throw new RangeError(`PCI functions need more of ${where} than there is`);
      space.placeBar(index, address);
    }
  }
}
