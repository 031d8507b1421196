/** Behind which port a station is: learnt from what it sends, forgotten when it is silent for long (IEEE 802.1D, 7.9). */

/** 802.1D's own default. */
const AGE_MS = 300_000;
/** Of one port: a guest that pretends to be many stations makes only its own forgotten. */
const MOST_OF_PORT = 256;

interface Station<Port> {
  port: Port;
  seenAtMs: number;
}

/** An address of Ethernet as a number. */
export function macNumber(frame: Uint8Array, at: number): number {
  const high = frame[at]! * 256 + frame[at + 1]!;
  const low = ((frame[at + 2]! << 24) | (frame[at + 3]! << 16) | (frame[at + 4]! << 8) | frame[at + 5]!) >>> 0;
  return high * 2 ** 32 + low;
}

export class Stations<Port> {
  /** By VLAN and address, in the order in which they were learnt. */
  readonly #vlans = new Map<number, Map<number, Station<Port>>>();
  readonly #count = new Map<Port, number>();

  learn(vlan: number, mac: number, port: Port, nowMs: number): void {
    let stations = this.#vlans.get(vlan);
    if (stations === undefined) {
      stations = new Map();
      this.#vlans.set(vlan, stations);
    }
    const known = stations.get(mac);
    if (known !== undefined) {
      known.seenAtMs = nowMs;
      if (known.port === port) return;
      this.#add(known.port, -1);
      known.port = port;
    } else stations.set(mac, { port, seenAtMs: nowMs });
    if (this.#add(port, 1) > MOST_OF_PORT) this.#forgetOldest(port);
  }

  find(vlan: number, mac: number, nowMs: number): Port | undefined {
    const stations = this.#vlans.get(vlan);
    const station = stations?.get(mac);
    if (station === undefined) return undefined;
    if (nowMs - station.seenAtMs < AGE_MS) return station.port;
    stations!.delete(mac);
    this.#add(station.port, -1);
    return undefined;
  }

  /** All stations of a port that is gone. */
  forget(port: Port): void {
    for (const stations of this.#vlans.values()) {
      for (const [mac, station] of stations) if (station.port === port) stations.delete(mac);
    }
    this.#count.delete(port);
  }

  /** The addresses behind a port. */
  of(port: Port): number[] {
    const all = [...this.#vlans.values()].flatMap((stations) => [...stations]);
    return all.filter(([, station]) => station.port === port).map(([mac]) => mac);
  }

  #add(port: Port, by: number): number {
    const count = (this.#count.get(port) ?? 0) + by;
    this.#count.set(port, count);
    return count;
  }

  #forgetOldest(port: Port): void {
    let oldest: { stations: Map<number, Station<Port>>; mac: number; seenAtMs: number } | undefined;
    for (const stations of this.#vlans.values()) {
      for (const [mac, station] of stations) {
        if (station.port !== port || station.seenAtMs >= (oldest?.seenAtMs ?? Number.POSITIVE_INFINITY)) continue;
        oldest = { stations, mac, seenAtMs: station.seenAtMs };
      }
    }
    if (oldest === undefined) return;
    oldest.stations.delete(oldest.mac);
    this.#add(port, -1);
  }
}
