/** The machine's PCI: bus 0 with the host bridge in slot 0 and the devices' functions behind it, as each thread makes it. */

import type { InterruptLine, Registers } from "@lodge/devices";
import type { Hypervisor, Msi, Vm } from "@lodge/kvm";
import type { Bus } from "../bus/bus.ts";
import { PCI_WINDOW } from "../memory/address-map.ts";
import { Doorbells } from "../virtio/doorbells.ts";
import { VirtioFunction, type VirtioFunctionHandle } from "../virtio/function.ts";
import { PciBus, type PciFunction } from "./bus.ts";
import { ConfigSpace, type FunctionLayout } from "./config-space.ts";
import { PciLines } from "./lines.ts";

/** The machine's PCI as a value that can be posted to other threads. */
export interface PciHandle {
  readonly bus: SharedArrayBuffer;
  readonly lines: SharedArrayBuffer;
  readonly bridge: SharedArrayBuffer;
  readonly functions: readonly VirtioFunctionHandle[];
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
}

/** Puts a machine's PCI on a thread's buses. What it opens is added to `resources`. */
export function connectPci(
  handle: PciHandle,
  { ports, memory, resetControl }: { ports: Bus; memory: Bus; resetControl: Registers },
  { hypervisor, vm, line, send }: PciWires,
  resources: DisposableStack,
): void {
  const lines = new PciLines(handle.lines, line);
  const bridge: PciFunction = { slot: 0, space: new ConfigSpace(handle.bridge, BRIDGE), bars: [] };
  const functions = handle.functions.map((one) => {
    const notifier = resources.use(hypervisor.attachNotifier(one.notifier));
    const doorbells = resources.use(new Doorbells(hypervisor, vm, one.doorbells));
    return new VirtioFunction(one, { pin: lines.pinA(one.slot), send, doorbells, wake: () => notifier.signal() });
  });
  new PciBus(handle.bus, [bridge, ...functions], resetControl).connect(ports, memory);
}

/** Gives every memory BAR a place, as firmware would; a guest may move them. */
export function placeBars(functions: readonly PciFunction[]): void {
  let next: number = PCI_WINDOW.start;
  for (const { space } of functions) {
    for (const [index, bar] of space.layout.bars.entries()) {
      if (bar === undefined || bar.kind === "io") continue;
      const address = Math.ceil(next / bar.sizeBytes) * bar.sizeBytes;
      next = address + bar.sizeBytes;
      if (next > PCI_WINDOW.start + PCI_WINDOW.sizeBytes)
        throw new RangeError("PCI functions need more memory than there is");
      space.placeBar(index, address);
    }
  }
}
