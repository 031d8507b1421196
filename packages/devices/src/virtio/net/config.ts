/** The network device's configuration space (virtio 1.2, 5.1.4), and what a card may be made with. */

import { parseMac } from "@lodge/network";
import { DeviceError } from "../../errors.ts";
import { Config, LinkStatus } from "./layout.ts";

export const MOST_PAIRS = 64;

export interface CardOptions {
  /** `52:54:00:12:34:56`. */
  mac: string;
  /** The largest packet, without Ethernet's header; what the driver chooses unless said. */
  mtu?: number;
  /** Queues in each direction; as many as there are vCPUs is a good number. */
  pairs?: number;
}

export class NetConfig {
  readonly bytes = new Uint8Array(Config.LENGTH);
  readonly mac: Uint8Array;
  readonly #view = new DataView(this.bytes.buffer);

  constructor({ mac, mtu, pairs = 1 }: CardOptions) {
    const address = parseMac(mac);
    if (address === undefined)
      throw new DeviceError("DEVICE_CONFIGURATION", `${JSON.stringify(mac)} is no MAC address`);
    if (!Number.isInteger(pairs) || pairs < 1 || pairs > MOST_PAIRS) {
      throw new DeviceError("DEVICE_CONFIGURATION", `${pairs} queue pairs: 1 to ${MOST_PAIRS} are possible`);
    }
    if (mtu !== undefined && (!Number.isInteger(mtu) || mtu < 68 || mtu > 65535)) {
      throw new DeviceError("DEVICE_CONFIGURATION", `an MTU of ${mtu}: 68 to 65535 are possible`);
    }
    this.mac = address;
    this.bytes.set(address, Config.MAC);
    this.#view.setUint16(Config.STATUS, LinkStatus.UP, true);
    this.#view.setUint16(Config.MAX_PAIRS, pairs, true);
    this.#view.setUint16(Config.MTU, mtu ?? 0, true);
  }

  /** One of {@link LinkStatus}. */
  has(bit: number): boolean {
    return (this.#view.getUint16(Config.STATUS, true) & bit) !== 0;
  }

  set(bit: number, on: boolean): void {
    const status = this.#view.getUint16(Config.STATUS, true);
    this.#view.setUint16(Config.STATUS, on ? status | bit : status & ~bit, true);
  }
}
