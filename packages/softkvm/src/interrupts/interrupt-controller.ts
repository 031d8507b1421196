/**
 * A machine's interrupt hardware: IOAPIC, 8259As, 8254, routes and the bus to the local APICs, over shared memory. Every
 * thread makes its own over the same area. What a thread calls here is done when it returns; nothing waits for others.
 */

import { type GsiRoute, type IoapicState, type Irqchip, type PicState, type PitState, SharedLock } from "@lodge/kvm";
import { ApicBus } from "./apic-bus.ts";
import type { ApicPort } from "./apic-port.ts";
import { EoiListening } from "./eoi-listening.ts";
import { Ioapic } from "./ioapic.ts";
import { DeliveryMode, Lvt, Reg } from "./lapic-registers.ts";
import { decodeMsi, emptyMessage, type InterruptMessage } from "./message.ts";
import { type NoticePorts, Notices } from "./notices.ts";
import { Pics } from "./pic.ts";
import { Pit } from "./pit.ts";
import { defaultRoutes, RoutingTable } from "./routing.ts";
import {
  IrqchipMode,
  interruptAreaBytes,
  Lapic,
  lapicWord,
  RouteWord,
  type SharedArea,
  sharedArea,
  Vm,
} from "./shared-layout.ts";

/** Who holds a line: a line is high while one of them does. */
export const IrqSource = {
  /** `setIrqLine` and plain irqfds. */
  USER: 1,
  /** irqfds with resampling: high until the guest's EOI. */
  RESAMPLE: 2,
  PIT: 4,
} as const;

export interface InterruptPorts extends NoticePorts {
  /** The machine's monotonic clock in nanoseconds, the same in every thread. */
  nowNs(): number;
}

export class InterruptController {
  readonly area: SharedArea;
  readonly bus: ApicBus;
  readonly ioapic: Ioapic;
  readonly notices: Notices;
  readonly #listening: EoiListening;
  readonly #words: Int32Array;
  readonly #lock: SharedLock;
  readonly #ports: InterruptPorts;
  readonly #pics: Pics;
  readonly #pit: Pit;
  readonly #routing: RoutingTable;
  readonly #message: InterruptMessage = emptyMessage();

  /** Over an area of {@link interruptAreaBytes} zeros, or one that another thread uses already. */
  constructor(buffer: ArrayBufferLike, byteOffset: number, maxVcpus: number, ports: InterruptPorts) {
    this.area = sharedArea(buffer, byteOffset, maxVcpus);
    this.#words = this.area.words;
    this.#ports = ports;
    this.#lock = new SharedLock(this.#words, Vm.lock);
    this.notices = new Notices(ports);
    this.bus = new ApicBus(this.area, this.notices);
    this.#listening = new EoiListening(this.bus);
    this.#routing = new RoutingTable(this.area);
    this.#pics = new Pics(this.area, {
      raised: () => this.#picRaised(),
      acknowledged: (pin) => this.#acknowledged(this.#routing.gsiOfPic(pin)),
      maskChanged: (pin, masked) => this.#maskChanged(this.#routing.gsiOfPic(pin), masked),
      heard: () => this.bus.ports.some((port) => port.acceptsPic),
    });
    this.ioapic = new Ioapic(this.area, this.bus, {
      nowNs: () => ports.nowNs(),
      acknowledged: (pin) => this.#acknowledged(this.#routing.gsiOfIoapic(pin)),
      maskChanged: (pin, masked) => this.#maskChanged(this.#routing.gsiOfIoapic(pin), masked),
      resample: (pin) => this.#resample(this.#routing.gsiOfIoapic(pin)),
      hasListener: (pin) => this.#hasListener(this.#routing.gsiOfIoapic(pin)),
    });
    this.#pit = new Pit(this.area, { nowNs: () => ports.nowNs(), tick: () => this.#pitTick() });
  }

  /** KVM_CREATE_IRQCHIP: IOAPIC, 8259As and KVM's default routes. */
  createIrqchip(): void {
    this.#locked(() => {
      this.#words[Vm.mode] = IrqchipMode.FULL;
      this.#pics.reset();
      this.ioapic.reset();
      this.#routing.set(defaultRoutes());
    });
  }

  /** KVM_CAP_SPLIT_IRQCHIP: local APICs only; the monitor's IOAPIC has `ioapicPins` pins, routed as messages. */
  enableSplitIrqchip(ioapicPins: number): void {
    this.#locked(() => {
      this.#words[Vm.mode] = IrqchipMode.SPLIT;
      this.#words[Vm.reservedPins] = ioapicPins;
      this.#routing.set([]);
    });
  }

  get hasLocalApics(): boolean {
    return this.#words[Vm.mode] !== IrqchipMode.NONE;
  }
  get hasIoapic(): boolean {
    return this.#words[Vm.mode] === IrqchipMode.FULL;
  }

  createPit(options: { speaker?: boolean } = {}): void {
    this.#locked(() => {
      this.#pit.create(options.speaker ?? false);
      this.bus.relistenAll();
    });
  }
  get hasPit(): boolean {
    return this.#pit.isPresent;
  }
  setPitReinject(on: boolean): void {
    this.#locked(() => {
      this.#pit.setReinject(on);
      this.bus.relistenAll();
    });
  }

  /** KVM_CAP_X2APIC_API's flags, KVM_CAP_X86_APIC_BUS_CYCLES_NS and KVM_SET_BOOT_CPU_ID. Before any processor. */
  configure(options: { x2apicApi?: number; busCycleNs?: number; bootId?: number }): void {
    if (options.x2apicApi !== undefined) this.#words[Vm.x2apicApi] = options.x2apicApi;
    if (options.busCycleNs !== undefined) this.#words[Vm.busCycleNs] = options.busCycleNs;
    if (options.bootId !== undefined) this.#words[Vm.bootId] = options.bootId;
  }

  /** Makes a slot for the local APIC of a new processor and returns its index; the processor resets it. */
  addApic(id: number): number {
    return this.#locked(() => {
      const index = this.#words[Vm.apicCount]!;
      if (index >= this.area.maxVcpus) return -1;
      if (this.#words[Vm.busCycleNs] === 0) this.#words[Vm.busCycleNs] = 1;
      const at = lapicWord(index);
      this.#words.fill(0, at, at + Lapic.end);
      this.#words[at + Lapic.id] = id;
      Atomics.store(this.#words, Vm.apicCount, index + 1);
      return index;
    });
  }

  /** KVM_IRQ_LINE_STATUS (api.rst 4.25). Returns the delivery status: 0 merged, above 0 delivered, below 0 masked. */
  setIrqLine(gsi: number, high: boolean, source: number = IrqSource.USER): number {
    const at = this.#routing.at(gsi);
    if (at < 0) return -1;
    return this.#locked(() => this.#setLine(at, high, source));
  }

  /** An irqfd was signalled: an edge, or a level that stays until the guest ends it. */
  signalIrqfd(gsi: number, resample: boolean): void {
    if (resample) {
      this.setIrqLine(gsi, true, IrqSource.RESAMPLE);
      return;
    }
    this.setIrqLine(gsi, true);
    this.setIrqLine(gsi, false);
  }

  /** Whether irqfds with resampling are on a GSI: its EOI lowers their level and is told to `resample`. */
  setResample(gsi: number, on: boolean): void {
    if (this.#routing.at(gsi) < 0) return;
    this.#locked(() => {
      this.#routing.setResamples(gsi, on);
      this.bus.relistenAll();
    });
    if (!on) this.setIrqLine(gsi, false, IrqSource.RESAMPLE);
  }

  /** KVM_SIGNAL_MSI (4.70). Returns how many processors took it; 0 or less for none. */
  signalMsi(msi: { addressLo: number; addressHi: number; data: number }): number {
    const status = this.#sendMsi(msi.addressLo, msi.addressHi, msi.data);
    this.notices.flush();
    return status;
  }

  /** KVM_SET_GSI_ROUTING (4.52). Throws a `KvmError`, having changed nothing, for a table that cannot be. */
  setRouting(routes: readonly GsiRoute[]): void {
    this.#locked(() => {
      this.#routing.set(routes);
      if (!this.hasIoapic) this.bus.relistenAll();
    });
  }

  /** KVM_HC_SEND_IPI (Documentation/virt/kvm/x86/hypercalls.rst): to APIC ids from `first` by bit. Returns how many took it. */
  sendIpis(bits: bigint, first: number, icr: number): number {
    const message = this.#message;
    message.vector = icr & 0xff;
    message.deliveryMode = icr & DeliveryMode.MASK;
    message.level = false;
    message.asserted = true;
    let count = 0;
    for (const port of this.bus.ports) {
      const bit = (port.x2apic ? port.id : port.xapicId) - first;
      if (!port.present || bit < 0 || bit >= 128 || ((bits >> BigInt(bit)) & 1n) === 0n || !port.accept(message))
        continue;
      this.notices.wake(port.index);
      count++;
    }
    this.notices.flush();
    return count;
  }

  getPic(chip: typeof Irqchip.PIC_MASTER | typeof Irqchip.PIC_SLAVE): PicState {
    return this.#locked(() => this.#pics.getState(chip));
  }
  setPic(chip: typeof Irqchip.PIC_MASTER | typeof Irqchip.PIC_SLAVE, state: PicState): void {
    this.#locked(() => this.#pics.setState(chip, state));
  }
  getIoapic(): IoapicState {
    return this.#locked(() => this.ioapic.getState());
  }
  setIoapic(state: IoapicState): void {
    this.#locked(() => {
      this.ioapic.setState(state);
      // KVM settles the 8259As whichever chip is set.
      this.#pics.update();
    });
  }
  getPit(): PitState {
    return this.#locked(() => this.#pit.getState());
  }
  setPit(state: PitState): void {
    this.#locked(() => this.#pit.setState(state));
  }

  /** Reads the ports of the 8259As and the 8254. Returns -1 where there is none of them. */
  readPort(port: number, size: number): number {
    switch (this.#device(port, size)) {
      case Device.PIC:
        // They are 8 bits wide; KVM reads zeros in a wider access.
        return size === 1 ? this.#locked(() => this.#pics.read(port)) : 0;
      case Device.PIT:
        return this.#locked(() => this.#pit.read(port - PIT_BASE));
      case Device.PORT_B:
        return this.#locked(() => this.#pit.readPortB());
      default:
        return -1;
    }
  }

  /** Writes one. Returns whether there is one. */
  writePort(port: number, size: number, value: number): boolean {
    const device = this.#device(port, size);
    if (device === Device.NONE) return false;
    if (device === Device.PIC && size !== 1) return true;
    this.#locked(() => {
      if (device === Device.PIC) this.#pics.write(port, value & 0xff);
      else if (device === Device.PIT) this.#pit.write(port - PIT_BASE, value & 0xff);
      else this.#pit.writePortB(value);
    });
    return true;
  }

  /** Reads the IOAPIC's registers by MMIO: the low 32 bits, or -1 elsewhere. */
  readMmio(address: number, size: number): number {
    if (!this.hasIoapic || !this.ioapic.contains(address, size)) return -1;
    return this.#locked(() => this.ioapic.read(address, size));
  }

  writeMmio(address: number, size: number, value: number): boolean {
    if (!this.hasIoapic || !this.ioapic.contains(address, size)) return false;
    this.#locked(() => this.ioapic.write(address, size, value));
    return true;
  }

  /** When {@link expire} has something to do, or Infinity. Takes no lock. */
  get nextDeadline(): number {
    return Math.min(this.#pit.nextDeadline, this.ioapic.nextDeadline);
  }

  /** Lets the 8254 tick. Whichever thread comes first does it. */
  expire(now: number): void {
    if (now < this.nextDeadline) return;
    this.#locked(() => {
      this.#pit.expire(now);
      this.ioapic.expire(now);
    });
  }

  /** Whether an 8259A wants the processor. Takes no lock. */
  get picOutput(): boolean {
    return this.hasIoapic && this.#pics.output;
  }

  acknowledgePic(): number {
    return this.#locked(() => this.#pics.acknowledge());
  }

  /** Whether IOAPICs hear of the end of a vector at this processor. Takes no lock. */
  listensForEoi(port: ApicPort, vector: number): boolean {
    return this.#listening.hears(port, vector);
  }

  /** Makes the set of vectors anew whose ends at this processor IOAPICs hear of. */
  relisten(port: ApicPort): void {
    this.#locked(() => {
      if (!this.#listening.begin(port)) return;
      if (this.hasIoapic) this.ioapic.listen(port, this.#listening);
      else this.#listenForMonitor(port);
    });
  }

  /** A processor ended an interrupt; where IOAPICs hear of it. */
  endOfInterrupt(port: ApicPort, vector: number, suppressed: boolean): void {
    if (!this.listensForEoi(port, vector)) return;
    this.#listening.ended(port, vector);
    const level = port.test(Reg.TMR, vector);
    if (this.hasIoapic) this.#locked(() => this.ioapic.endOfInterrupt(port, vector, level, suppressed));
    else this.#words[port.at + Lapic.ioapicEoi] = vector + 1;
  }

  /** A processor's local APIC was restored. */
  restored(port: ApicPort): void {
    if (this.hasIoapic) this.#locked(() => this.ioapic.restoreRtc(port));
  }

  /** With the lock; what has to be told is told after it. */
  #locked<T>(act: () => T): T {
    this.#lock.acquire();
    let result: T;
    try {
      result = act();
    } finally {
      this.#lock.release();
    }
    this.notices.flush();
    return result;
  }

  #device(port: number, size: number): number {
    if (port > LAST_PORT) return Device.NONE;
    const last = port + size - 1;
    if (this.hasIoapic) {
      for (const base of PIC_BASES) if (port >= base && last <= base + 1) return Device.PIC;
    }
    if (!this.#pit.isPresent) return Device.NONE;
    if (port >= PIT_BASE && last <= PIT_BASE + 3) return Device.PIT;
    return port === PORT_B && this.#pit.hasSpeaker ? Device.PORT_B : Device.NONE;
  }

  #setLine(at: number, high: boolean, source: number): number {
    if (this.#routing.isMessage(at)) {
      if (!high) return -1;
      const words = this.#words;
      return this.#sendMsi(
        words[at + RouteWord.addressLow]!,
        words[at + RouteWord.addressHigh]!,
        words[at + RouteWord.data]!,
      );
    }
    // The sum over those that are not masked; masked only if all are.
    let status = -1;
    const ioapicPin = this.#routing.ioapicPin(at);
    if (ioapicPin >= 0) status = added(status, this.ioapic.setLine(ioapicPin, source, high));
    const firstPin = this.#routing.firstPicPin(at);
    if (firstPin >= 0) status = added(status, this.#pics.setLine(firstPin, source, high));
    const secondPin = this.#routing.secondPicPin(at);
    if (secondPin >= 0) status = added(status, this.#pics.setLine(secondPin, source, high));
    return status;
  }

  #sendMsi(addressLow: number, addressHigh: number, data: number): number {
    const wideIds = (this.#words[Vm.x2apicApi]! & 1) !== 0;
    decodeMsi(this.#message, addressLow, addressHigh, data, wideIds);
    return this.bus.deliver(this.#message);
  }

  #picRaised(): void {
    const listener = this.bus.ports.find((port) => port.acceptsPic);
    if (listener !== undefined) this.notices.wake(listener.index);
  }

  #pitTick(): void {
    const at = this.#routing.at(PIT_GSI);
    this.#setLine(at, true, IrqSource.PIT);
    this.#setLine(at, false, IrqSource.PIT);
    // KVM's watchdog by virtual wire: processors whose LINT0 is an NMI get each tick as one.
    for (const port of this.bus.ports) {
      const entry = port.register(Reg.LVT_LINT0);
      if (!port.present || (entry & (Lvt.MODE | Lvt.MASKED)) !== DeliveryMode.NMI) continue;
      port.queueNmi();
      this.notices.wake(port.index);
    }
  }

  #acknowledged(gsi: number): void {
    if (gsi === PIT_GSI) this.#pit.acknowledged();
    this.#resample(gsi);
  }

  #maskChanged(gsi: number, masked: boolean): void {
    if (gsi === PIT_GSI && !masked && this.#pit.isPresent) this.#pit.forgetLostTicks();
  }

  #resample(gsi: number): boolean {
    if (!this.#routing.resamples(gsi)) return false;
    this.#setLine(this.#routing.at(gsi), false, IrqSource.RESAMPLE);
    this.notices.resample(gsi);
    return true;
  }

  #hasListener(gsi: number): boolean {
    return (gsi === PIT_GSI && this.#pit.reinjects) || this.#routing.resamples(gsi);
  }

  /** Split chip: the vectors that pins of the monitor's IOAPIC send as levels. */
  #listenForMonitor(port: ApicPort): void {
    const message = this.#message;
    const pins = this.#words[Vm.reservedPins]!;
    for (let gsi = 0; gsi < pins; gsi++) {
      const at = this.#routing.at(gsi);
      if (at < 0 || !this.#routing.isMessage(at)) continue;
      const words = this.#words;
      const wideIds = (words[Vm.x2apicApi]! & 1) !== 0;
      decodeMsi(message, words[at + 1]!, words[at + 2]!, words[at + 3]!, wideIds);
      if (message.level) this.#listening.add(port, message.vector, message.destination, message.logical);
    }
  }
}

function added(status: number, next: number): number {
  return next < 0 ? status : Math.max(status, 0) + next;
}

/** The 8254's output. */
const PIT_GSI = 0;

/** Which device answers at a port. An access that leaves its ports is the monitor's. */
const Device = { NONE: 0, PIC: 1, PIT: 2, PORT_B: 3 } as const;
/** Command and data ports of both 8259As, and their edge/level control registers. */
const PIC_BASES = [0x20, 0xa0, 0x4d0] as const;
const PIT_BASE = 0x40;
const PORT_B = 0x61;
const LAST_PORT = PIC_BASES[2] + 1;

export { interruptAreaBytes };
