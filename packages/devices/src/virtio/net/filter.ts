/** Which frames a driver wants to receive (virtio 1.2, 5.1.6.5.1 to 5.1.6.5.3). */

import { formatMac } from "@lodge/network";
import { bytes, decodeBytes, encodeBytes, flag, group, list, text } from "../../state.ts";

/** Addresses of each table; with more, a driver receives everything of that kind, as it shall. */
const MOST_ADDRESSES = 64;

/** The commands of class RX, in their order. */
const MODES = ["promiscuous", "allMulticast", "allUnicast", "noMulticast", "noUnicast", "noBroadcast"] as const;
type Mode = (typeof MODES)[number];

export const filterState = group({
  modes: list(flag, MODES.length),
  unicast: list(text(17), MOST_ADDRESSES),
  multicast: list(text(17), MOST_ADDRESSES),
  overflow: list(flag, 2),
  vlans: bytes(512),
});

export class ReceiveFilter {
  readonly #modes = new Map<Mode, boolean>();
  #unicast = new Set<string>();
  #multicast = new Set<string>();
  /** A table was too long: all unicast, all multicast. */
  #overflow: [boolean, boolean] = [false, false];
  #vlans = new Uint8Array(512);

  constructor(saved?: ReturnType<typeof filterState.check>) {
    // Until the driver says otherwise, everything is received.
    this.#modes.set("promiscuous", true);
    if (saved === undefined) return;
    for (const [index, on] of saved.modes.entries()) this.#modes.set(MODES[index]!, on);
    this.#unicast = new Set(saved.unicast);
    this.#multicast = new Set(saved.multicast);
    this.#overflow = [saved.overflow[0] ?? false, saved.overflow[1] ?? false];
    this.#vlans.set(decodeBytes(saved.vlans).subarray(0, 512));
  }

  save(): ReturnType<typeof filterState.check> {
    return {
      modes: MODES.map((mode) => this.#modes.get(mode) ?? false),
      unicast: [...this.#unicast],
      multicast: [...this.#multicast],
      overflow: [...this.#overflow],
      vlans: encodeBytes(this.#vlans),
    };
  }

  /** A command of class RX; false when there is none of that number. */
  setMode(command: number, on: boolean): boolean {
    const mode = MODES[command];
    if (mode === undefined) return false;
    this.#modes.set(mode, on);
    return true;
  }

  /** Both tables: u32 count and addresses each. False when they are not whole. */
  setTables(data: Uint8Array): boolean {
    const view = new DataView(data.buffer, data.byteOffset, data.length);
    const tables: Set<string>[] = [];
    const overflow: boolean[] = [];
    let at = 0;
    for (let table = 0; table < 2; table++) {
      if (at + 4 > data.length) return false;
      const count = view.getUint32(at, true);
      at += 4;
      if (at + count * 6 > data.length) return false;
      overflow.push(count > MOST_ADDRESSES);
      const addresses = Array.from({ length: Math.min(count, MOST_ADDRESSES) }, (_, index) =>
        formatMac(data.subarray(at + index * 6, at + index * 6 + 6)),
      );
      tables.push(new Set(addresses));
      at += count * 6;
    }
    [this.#unicast, this.#multicast] = [tables[0]!, tables[1]!];
    this.#overflow = [overflow[0]!, overflow[1]!];
    return true;
  }

  setVlan(id: number, on: boolean): boolean {
    if (id > 4095) return false;
    const bit = 1 << (id & 7);
    if (on) this.#vlans[id >> 3]! |= bit;
    else this.#vlans[id >> 3]! &= ~bit;
    return true;
  }

  /** Whether a frame is for the driver with this address. `byVlan`: it has negotiated to say which VLANs it wants. */
  accepts(frame: Uint8Array, mac: Uint8Array, byVlan: boolean): boolean {
    if (this.#is("promiscuous")) return true;
    if (byVlan && frame[12] === 0x81 && frame[13] === 0) {
      const id = ((frame[14]! & 0xf) << 8) | frame[15]!;
      if (!(this.#vlans[id >> 3]! & (1 << (id & 7)))) return false;
    }
    const to = frame.subarray(0, 6);
    if (to.every((byte) => byte === 0xff)) return !this.#is("noBroadcast");
    if (to[0]! & 1) {
      if (this.#is("noMulticast")) return false;
      return this.#is("allMulticast") || this.#overflow[1] || this.#multicast.has(formatMac(to));
    }
    if (this.#is("noUnicast")) return false;
    if (this.#is("allUnicast") || this.#overflow[0]) return true;
    return to.every((byte, index) => byte === mac[index]) || this.#unicast.has(formatMac(to));
  }

  #is(mode: Mode): boolean {
    return this.#modes.get(mode) ?? false;
  }
}
