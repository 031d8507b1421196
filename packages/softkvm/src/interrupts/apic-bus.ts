/**
 * The bus between IOAPICs, messages and local APICs: who a destination means, and who of them gets an interrupt that is
 * for one only. Needs no lock.
 *
 * KVM finds destinations through a map of the machine's APIC ids and, where ids are ambiguous or the destination is a
 * broadcast, by asking every APIC. The two differ in what guests can see (which processor an interrupt of lowest
 * priority goes to) and in what is returned when there is nobody: 0 and -1. Both are followed here; a machine has few
 * processors, so the map is not kept but seen anew on each delivery.
 */

import { ApicPort } from "./apic-port.ts";
import { BROADCAST, DeliveryMode, DFR_FLAT, Reg, Shorthand, X2APIC_BROADCAST } from "./lapic-registers.ts";
import type { InterruptMessage } from "./message.ts";
import type { Notices } from "./notices.ts";
import { Lapic, type SharedArea, Vm } from "./shared-layout.ts";

/** KVM_X2APIC_API_*. */
export const X2apicApi = { WIDE_IDS: 1, NO_BROADCAST_QUIRK: 2 } as const;

/** What a machine's software-enabled APICs make of logical destinations. */
const Logical = { NOBODY: 0, X2APIC: 1, FLAT: 2, CLUSTER: 3, AMBIGUOUS: 4 } as const;

export class ApicBus {
  readonly #area: SharedArea;
  readonly #notices: Notices;
  readonly #ports: ApicPort[] = [];
  /** The APICs that a logical destination means, by bit. Reused: one delivery at a time in a thread. */
  readonly #members: (ApicPort | undefined)[] = new Array(16).fill(undefined);

  readonly #seen = new Int32Array(8);
  /** Whom a message means: the first {@link #count} here. Reused, too. */
  readonly #meant: ApicPort[] = [];
  #count = 0;

  constructor(area: SharedArea, notices: Notices) {
    this.#area = area;
    this.#notices = notices;
  }

  /** The machine's local APICs, present or not, in the order of their making. */
  get ports(): readonly ApicPort[] {
    const count = this.#area.words[Vm.apicCount]!;
    while (this.#ports.length < count) this.#ports.push(new ApicPort(this.#area, this.#ports.length));
    return this.#ports;
  }

  /**
   * Delivers an interrupt that a device sent, or an APIC (`source`). Returns how many APICs took it, or -1 if there was
   * nobody whom it could mean. With `rtc`, notes who has to end it (see the IOAPIC).
   */
  deliver(message: InterruptMessage, source?: ApicPort, rtc = false): number {
    if (message.shorthand === Shorthand.SELF) return source === undefined ? -1 : this.#give(source, message, rtc);
    const mapped = this.#find(message, source);
    let accepted = mapped || this.#count > 0 ? 0 : -1;
    for (let index = 0; index < this.#count; index++) accepted += this.#give(this.#meant[index]!, message, rtc);
    return accepted;
  }

  /** The processor makes the set of vectors whose ends IOAPICs hear of anew before it goes on. */
  relisten(port: ApicPort): void {
    Atomics.store(this.#area.words, port.at + Lapic.relisten, 1);
    this.#notices.wake(port.index);
  }

  /** All do: after changes of APICs' ids and modes, and of who waits for an end. */
  relistenAll(): void {
    for (const port of this.ports) this.relisten(port);
  }

  /** Those do that a message from a device would come to. */
  relistenWhere(message: InterruptMessage): void {
    this.#find(message, undefined);
    for (let index = 0; index < this.#count; index++) this.relisten(this.#meant[index]!);
  }

  /** Whether a device's interrupt for this destination would come to this APIC. */
  reaches(port: ApicPort, destination: number, logical: boolean): boolean {
    return port.matches(this.#destinationFor(port, destination, undefined), logical);
  }

  #isBroadcast(destination: number, source: ApicPort | undefined): boolean {
    if ((this.#area.words[Vm.x2apicApi]! & X2apicApi.NO_BROADCAST_QUIRK) !== 0) {
      if (destination === X2APIC_BROADCAST) return true;
      return destination === BROADCAST && this.#logicalMode(0) !== Logical.X2APIC;
    }
    return destination === (source?.x2apic ? X2APIC_BROADCAST : BROADCAST);
  }

  /** Whether two APICs answer to one id; only they themselves can tell then. With 32-bit ids KVM has the first win. */
  #sharesIds(): boolean {
    if ((this.#area.words[Vm.x2apicApi]! & X2apicApi.WIDE_IDS) !== 0) return false;
    this.#seen.fill(0);
    for (const port of this.ports) {
      if (!port.present) continue;
      const id = port.x2apic ? port.id : port.xapicId;
      // xAPIC ids have 8 bits, and x2APIC ids are each processor's own.
      if (id > 0xff) continue;
      const bit = 1 << (id & 31);
      if ((this.#seen[id >> 5]! & bit) !== 0) return true;
      this.#seen[id >> 5]! |= bit;
    }
    return false;
  }

  /** Fills in whom a message means, but those that do not take it. Returns whether the map says so. */
  #find(message: InterruptMessage, source: ApicPort | undefined): boolean {
    this.#count = 0;
    const { shorthand, destination } = message;
    if (shorthand === Shorthand.NONE && !this.#isBroadcast(destination, source) && !this.#sharesIds()) {
      const mode = message.logical ? this.#logicalMode(destination) : Logical.NOBODY;
      if (mode !== Logical.AMBIGUOUS) {
        if (message.logical) this.#findLogical(mode, message);
        else this.#findPhysical(destination);
        return true;
      }
    }
    this.#askEveryone(message, source);
    return false;
  }

  #findPhysical(destination: number): void {
    const wideIds = (this.#area.words[Vm.x2apicApi]! & X2apicApi.WIDE_IDS) !== 0;
    for (const port of this.ports) {
      if (!port.present) continue;
      const id = port.x2apic || (wideIds && port.id > 0xff) ? port.id : port.xapicId;
      if (id === destination) this.#meant[this.#count++] = port;
    }
  }

  #findLogical(mode: number, message: InterruptMessage): void {
    const bits = mode === Logical.FLAT ? 0xff : mode === Logical.CLUSTER ? 0xf : mode === Logical.X2APIC ? 0xffff : 0;
    let mask = message.destination & bits;
    if (mask !== 0 && isForOne(message)) mask = nthBit(mask, message.vector % bitCount(mask));
    for (let bit = 0; mask >> bit !== 0; bit++) {
      const port = (mask & (1 << bit)) !== 0 ? this.#members[bit] : undefined;
      if (port !== undefined) this.#meant[this.#count++] = port;
    }
  }

  /** How the APICs understand logical destinations; fills in the members of the group that `destination` names. */
  #logicalMode(destination: number): number {
    this.#members.fill(undefined);
    let mode: number = Logical.NOBODY;
    // Members that were seen: 8 of the flat model, or 16 clusters of 4 in two words.
    let seenLow = 0;
    let seenHigh = 0;
    for (const port of this.ports) {
      if (!port.present) continue;
      const x2apic = port.x2apic;
      const ldr = port.register(Reg.LDR);
      if (!port.softwareEnabled || ldr === 0) continue;
      const flat = port.register(Reg.DFR) === DFR_FLAT;
      const own = x2apic ? Logical.X2APIC : flat ? Logical.FLAT : Logical.CLUSTER;
      if (mode === Logical.NOBODY) mode = own;
      else if (mode !== own) return Logical.AMBIGUOUS;
      if (x2apic) continue;

      const id = ldr >>> 24;
      const group = own === Logical.FLAT ? id : id & 0xf;
      if (group === 0) continue;
      const bit = 31 - Math.clz32(group);
      const place = own === Logical.FLAT ? bit : (id >> 4) * 4 + bit;
      const mark = 1 << (place & 31);
      // One bit each, and each bit once: otherwise only the APICs themselves can tell.
      if (group !== 1 << bit || ((place < 32 ? seenLow : seenHigh) & mark) !== 0) return Logical.AMBIGUOUS;
      if (place < 32) seenLow |= mark;
      else seenHigh |= mark;
      if (own === Logical.FLAT || id >> 4 === ((destination >>> 4) & 0xf)) this.#members[bit] = port;
    }
    if (mode === Logical.X2APIC) this.#x2apicCluster(destination >>> 16);
    return mode;
  }

  /** The logical ids of x2APICs follow from their ids, so those that software has not enabled are members too. */
  #x2apicCluster(cluster: number): void {
    this.#members.fill(undefined);
    for (const port of this.ports) {
      if (port.present && port.x2apic && port.id >>> 4 === cluster) this.#members[port.id & 0xf] = port;
    }
  }

  #askEveryone(message: InterruptMessage, source: ApicPort | undefined): void {
    const { shorthand, destination, logical } = message;
    // KVM: the lowest priority among everyone is everyone's, unless a message hints otherwise.
    const everyone = !logical && destination === BROADCAST && !message.redirectionHint;
    const forOne = isForOne(message) && !everyone;
    const meant = (port: ApicPort): boolean => {
      if (!port.present) return false;
      if (shorthand === Shorthand.ALL) return true;
      if (shorthand === Shorthand.OTHERS) return port.index !== source?.index;
      return port.matches(this.#destinationFor(port, destination, source), logical);
    };

    if (forOne) {
      const candidates = this.ports.filter((port) => meant(port) && port.softwareEnabled);
      const chosen = candidates[message.vector % candidates.length];
      if (chosen !== undefined) this.#meant[this.#count++] = chosen;
      return;
    }
    for (const port of this.ports) if (meant(port)) this.#meant[this.#count++] = port;
  }

  /** KVM's quirk: a device's 8-bit broadcast means x2APICs too, because there is no interrupt remapping. */
  #destinationFor(port: ApicPort, destination: number, source: ApicPort | undefined): number {
    if (source !== undefined || destination !== BROADCAST || !port.x2apic) return destination;
    return (this.#area.words[Vm.x2apicApi]! & X2apicApi.NO_BROADCAST_QUIRK) !== 0 ? destination : X2APIC_BROADCAST;
  }

  #give(port: ApicPort, message: InterruptMessage, rtc: boolean): number {
    if (!port.accept(message)) return 0;
    const { deliveryMode, vector } = message;
    if (rtc && (deliveryMode === DeliveryMode.FIXED || deliveryMode === DeliveryMode.LOWEST_PRIORITY)) {
      this.#area.words[port.at + Lapic.rtcVector] = vector + 1;
    }
    this.#notices.wake(port.index);
    return 1;
  }
}

function isForOne({ deliveryMode, redirectionHint }: InterruptMessage): boolean {
  return deliveryMode === DeliveryMode.LOWEST_PRIORITY || redirectionHint;
}

function bitCount(mask: number): number {
  let count = 0;
  for (let rest = mask; rest !== 0; rest &= rest - 1) count++;
  return count;
}

/** The lowest bit of the mask but `n`. */
function nthBit(mask: number, n: number): number {
  let rest = mask;
  for (let skipped = 0; skipped < n; skipped++) rest &= rest - 1;
  return rest & -rest;
}
