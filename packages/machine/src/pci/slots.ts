/** The PCI slots of a machine as its I/O thread has them: which virtio device is in which, and how they come and go. */

import type { GuestRam, VirtioDevice } from "@lodge/devices";
import type { Hypervisor, Vm } from "@lodge/kvm";
import { MachineError } from "../errors.ts";
import { interruptLine } from "../interrupts.ts";
import type { VcpuThread } from "../vcpu/thread.ts";
import { VirtioPort } from "../virtio/port.ts";
import { DEVICE_SLOTS, PciBus, SLOTS } from "./bus.ts";
import { PciHotplug } from "./hotplug.ts";
import { PciLines } from "./lines.ts";
import { createBridge, type PciHandle, placeBars } from "./root.ts";
import { SerialCard } from "./serial-card.ts";

export interface SlotsWires {
  readonly hypervisor: Hypervisor;
  readonly vm: Vm;
  readonly ram: GuestRam;
  /** A driver broke the rules of its device. */
  readonly failed: (reason: string) => void;
  /** The guest is to look at its slots: ACPI's event for that. */
  readonly tellGuest: () => void;
  /** A serial card has something for the I/O thread. */
  readonly wakeHost: () => void;
  /** A device is out of the machine. */
  readonly unplugged: (device: VirtioDevice) => void;
}

interface Occupied {
  readonly device: VirtioDevice;
  readonly port: VirtioPort;
  /** The threads that may still use what is pulled out; undefined: it is in its slot. */
  users?: Set<VcpuThread>;
  closing?: Promise<void>;
}

/** Once, whoever wants it. */
function close(one: Occupied): Promise<void> {
  one.closing ??= one.port[Symbol.asyncDispose]();
  return one.closing;
}

export class PciSlots implements AsyncDisposable {
  /** What the vCPUs' threads begin with. */
  readonly handle: PciHandle;
  /** In the last slots, where they stay. */
  readonly serialCards: readonly SerialCard[];
  readonly #wires: SlotsWires;
  readonly #pins: PciLines;
  readonly #hotplug: PciHotplug;
  readonly #occupied = new Map<number, Occupied>();
  #vcpus: readonly VcpuThread[] = [];

  /** Puts devices into slots from 1 on, as they are listed, and so many serial cards; a slot for which there is none stays empty. */
  constructor(devices: readonly (VirtioDevice | undefined)[], serialCards: number, wires: SlotsWires) {
    this.#wires = wires;
    const lines = PciLines.create();
    this.#pins = new PciLines(lines, (gsi) => interruptLine(wires.vm, gsi));
    const hotplug = PciHotplug.create();
    // Only vCPUs eject.
    this.#hotplug = new PciHotplug(hotplug, () => {});
    for (const [index, device] of devices.entries()) if (device !== undefined) this.#put(index + 1, device);
    const cards = Array.from({ length: serialCards }, (_, index) => SerialCard.create(SLOTS - serialCards + index));
    this.serialCards = cards.map((card) => {
      const { vm, wakeHost } = wires;
      const pin = this.#pins.pinA(card.slot);
      return new SerialCard(card, { pin, send: (message) => vm.signalMsi(message), wakeHost });
    });
    placeBars([...this.ports.map((port) => port.function), ...this.serialCards]);
    const functions = this.ports.map((port) => port.handle);
    this.handle = { bus: PciBus.create(), lines, hotplug, bridge: createBridge(), functions, serialCards: cards };
  }

  /** Once they are there: they hear of what comes and goes. */
  attach(vcpus: readonly VcpuThread[]): void {
    this.#vcpus = vcpus;
  }

  get ports(): VirtioPort[] {
    return [...this.#occupied.values()].map(({ port }) => port);
  }

  /** Plugs a device into the first free slot. The guest finds it without registers' places, and gives it some. */
  plug(device: VirtioDevice): { slot: number; port: VirtioPort } {
    const cards = this.serialCards.map(({ slot }) => slot);
    const slot = DEVICE_SLOTS.find((free) => !this.#occupied.has(free) && !cards.includes(free));
    if (slot === undefined)
      throw new MachineError("MACHINE_STATE", `all ${DEVICE_SLOTS.length} PCI slots have a device`);
    const port = this.#put(slot, device);
    for (const vcpu of this.#vcpus) vcpu.plug({ slot, function: port.handle });
    PciBus.filled(this.handle.bus, slot);
    this.#hotplug.plugged(slot);
    this.#wires.tellGuest();
    return { slot, port };
  }

  /** Asks the guest to let go of a device. */
  askOut(device: VirtioDevice): void {
    const slot = [...this.#occupied.keys()].find((one) => this.#occupied.get(one)!.device === device);
    if (slot === undefined) throw new MachineError("MACHINE_STATE", "the device is in no slot of this machine");
    this.#hotplug.askOut(slot);
    this.#wires.tellGuest();
  }

  /** Takes out what the guest has let go of. What threads share of it is closed when none of them can use it any more. */
  serve(): void {
    for (const slot of this.#hotplug.takeEjected()) {
      const out = this.#occupied.get(slot);
      if (out === undefined || out.users !== undefined) continue;
      out.users = new Set(this.#vcpus);
      for (const vcpu of this.#vcpus) {
        vcpu.plug({ slot, function: undefined });
        vcpu.kick();
      }
    }
  }

  /** A vCPU's thread knows nothing of a slot's function any more. */
  async released(slot: number, by: VcpuThread): Promise<void> {
    const out = this.#occupied.get(slot);
    if (out?.users?.delete(by) !== true || out.users.size > 0) return;
    await close(out);
    if (this.#occupied.delete(slot)) this.#wires.unplugged(out.device);
  }

  #put(slot: number, device: VirtioDevice): VirtioPort {
    const { hypervisor, vm, ram, failed } = this.#wires;
    const port = new VirtioPort(hypervisor, slot, device, {
      vm,
      ram,
      send: (message) => vm.signalMsi(message),
      pin: this.#pins.pinA(slot),
      failed,
    });
    this.#occupied.set(slot, { device, port });
    return port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // In the opposite order, as everything else.
    for (const one of [...this.#occupied.values()].toReversed()) await close(one);
    this.#occupied.clear();
  }
}
