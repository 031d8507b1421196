/** The network device (virtio 1.2, 5.1). */

import {
  finishChecksum,
  formatMac,
  type GuestSide,
  type Offload,
  type PacketPort,
  parseMac,
  readVnetHeader,
  VnetHeader,
  writeVnetHeader,
} from "@lodge/network";
import { flag, integer, type SavedState, stateRecord, text } from "../../state.ts";
import { DeviceType, VirtioDevice } from "../device.ts";
import type { Chain, Virtqueue } from "../queue/index.ts";
import { type CardOptions, MOST_PAIRS, NetConfig } from "./config.ts";
import { filterState, ReceiveFilter } from "./filter.ts";
import {
  CONTROL_ERR,
  CONTROL_OK,
  Control,
  LinkStatus,
  MAX_FRAME,
  MacCommand,
  NetFeature,
  VlanCommand,
} from "./layout.ts";

const QUEUE_SIZE = 256;
/** What a control command may hold: both address tables at their longest. */
const MAX_CONTROL = 16384;

export interface NetOptions extends CardOptions {
  port: PacketPort;
}

const record = stateRecord("virtio-net", 1, {
  mac: text(17),
  linkUp: flag,
  announcing: flag,
  pairs: integer(1, MOST_PAIRS),
  offloads: flag,
  filter: filterState,
});

export class NetDevice extends VirtioDevice {
  readonly type = DeviceType.NET;
  readonly features: bigint;
  readonly queueSizes: readonly number[];
  readonly config: Uint8Array;
  readonly #config: NetConfig;
  readonly #port: PacketPort;
  readonly #mac: Uint8Array;
  readonly #maxPairs: number;
  readonly #header = new DataView(new ArrayBuffer(VnetHeader.LENGTH));
  /** Where frames of the guest are put together; making 64 KiB anew for each costs more than sending it. */
  readonly #frame = new Uint8Array(MAX_FRAME);
  readonly #headerBytes = new Uint8Array(this.#header.buffer);
  #filter = new ReceiveFilter();
  /** Pairs that the driver uses now. */
  #pairs = 1;
  /** Of what stands in front of each frame. */
  #headerLength: number = VnetHeader.LENGTH;
  /** The driver takes what it negotiated; it may turn that off and on again. */
  #offloads = true;
  #refused = false;
  #paused = false;

  constructor({ port, ...card }: NetOptions, saved?: SavedState) {
    super();
    const { mtu, pairs = 1 } = card;
    this.#config = new NetConfig(card);
    this.config = this.#config.bytes;
    this.#port = port;
    this.#mac = this.#config.mac.slice();
    this.#maxPairs = pairs;
    this.queueSizes = Array.from({ length: 2 * pairs + 1 }, () => QUEUE_SIZE);
    this.features = offered(port, mtu !== undefined, pairs > 1);
    if (saved !== undefined) this.#restore(saved);
    port.connect(this.#guestSide());
    port.usePairs?.(this.#pairs);
  }

  /** Plugs the cable in or pulls it out. */
  setLink(up: boolean): void {
    this.#setStatus(LinkStatus.UP, up);
  }

  /** Has the guest say who and where it is, so that switches learn: after it came here from another host. */
  announce(): void {
    if (this.link.features & NetFeature.GUEST_ANNOUNCE) this.#setStatus(LinkStatus.ANNOUNCE, true);
  }

  #setStatus(bit: number, on: boolean): void {
    this.#config.set(bit, on);
    this.link.configChanged();
  }

  get linkUp(): boolean {
    return this.#isUp;
  }

  get #isUp(): boolean {
    return this.#config.has(LinkStatus.UP);
  }

  #has(feature: bigint): boolean {
    return (this.link.features & feature) !== 0n;
  }

  override notified(number: number): void {
    const queue = this.link.queues[number];
    if (queue === undefined || this.#paused) return;
    if (number === this.#controlQueue) queue.serve((chain) => this.#control(queue, chain));
    else if (number & 1) queue.serve((chain) => this.#transmit(queue, chain, number >> 1));
    else this.#hasRoom();
  }

  /** 5.1.2: behind all pairs, or behind the first when the driver knows of one only. */
  get #controlQueue(): number {
    return this.#has(NetFeature.MQ) ? 2 * this.#maxPairs : 2;
  }

  #hasRoom(): void {
    if (!this.#refused) return;
    this.#refused = false;
    this.#port.room?.();
  }

  #transmit(queue: Virtqueue, chain: Chain, pair: number): void {
    const length = chain.readableBytes - this.#headerLength;
    if (length >= 14 && length <= MAX_FRAME && this.#isUp) {
      chain.read(0, this.#headerBytes);
      const offload = this.#readOffload(length);
      if (offload !== false) {
        const frame = this.#frame.subarray(0, length);
        chain.read(this.#headerLength, frame);
        this.#port.transmit(frame, offload, pair);
      }
    }
    queue.push(chain, 0);
  }

  /** What the header asks for; undefined for nothing, false for what was not negotiated or does not fit the frame. */
  #readOffload(length: number): Offload | undefined | false {
    const offload = readVnetHeader(this.#header, length, this.#has(NetFeature.HOST_UFO));
    if (!offload) return offload;
    if (!this.#has(NetFeature.CSUM)) return false;
    if (offload.segments === undefined) return offload;
    return this.#has(offload.segments.version === 4 ? NetFeature.HOST_TSO4 : NetFeature.HOST_TSO6) && offload;
  }

  #guestSide(): GuestSide {
    const device = this;
    return {
      receive: (frame, offload, pair) => this.#receive(frame, offload, pair),
      get takes() {
        const on = device.#offloads;
        return {
          checksum: on && device.#has(NetFeature.GUEST_CSUM),
          tcp4: on && device.#has(NetFeature.GUEST_TSO4),
          tcp6: on && device.#has(NetFeature.GUEST_TSO6),
          udp: on && device.#has(NetFeature.GUEST_UFO),
        };
      },
    };
  }

  #usePairs(count: number): void {
    this.#pairs = count;
    this.#port.usePairs?.(count);
  }

  #receive(frame: Uint8Array, offload?: Offload, pair?: number): boolean {
    if (this.link.queues.length === 0 || !this.#isUp || frame.length < 14 || frame.length > MAX_FRAME) return true;
    if (!this.#filter.accepts(frame, this.#mac, this.#has(NetFeature.CTRL_VLAN))) return true;
    const into = pair !== undefined && pair < this.#pairs ? pair : flowOf(frame, this.#pairs);
    const queue = this.link.queues[2 * into] ?? this.link.queues[0];
    const chains =
      queue === undefined || this.#paused ? undefined : this.#takeRoom(queue, this.#headerLength + frame.length);
    if (queue === undefined || chains === undefined) {
      this.#refused = true;
      return false;
    }
    this.#fillHeader(frame, offload, chains.length);
    const headerLength = this.#headerLength;
    let done = -headerLength;
    for (const chain of chains) {
      let at = 0;
      if (done < 0) {
        chain.write(0, this.#headerBytes.subarray(0, headerLength));
        [at, done] = [headerLength, 0];
      }
      const written = chain.write(at, frame.subarray(done));
      done += written;
      queue.push(chain, at + written);
    }
    queue.publish();
    return true;
  }

  /** Chains with room for so many bytes: one, or with mergeable buffers some (5.1.6.3.1). None when there are too few. */
  #takeRoom(queue: Virtqueue, bytes: number): Chain[] | undefined {
    const chains: Chain[] = [];
    const most = this.#has(NetFeature.MRG_RXBUF) ? QUEUE_SIZE : 1;
    let room = 0;
    while (room < bytes && chains.length < most) {
      // The driver shall ring for what comes behind all that there is, which is where the ring is only now.
      const chain = queue.pop() ?? (queue.setNotifications(true) ? queue.pop() : undefined);
      if (chain === undefined) break;
      chains.push(chain);
      // The header is in one piece of the guest's; a buffer without room for it is nobody's.
      if (chains.length === 1 && chain.writableBytes < this.#headerLength) {
        queue.break("a receive buffer shorter than a header");
        return undefined;
      }
      room += chain.writableBytes;
    }
    if (room >= bytes) return chains;
    for (const chain of chains.reverse()) queue.unpop(chain);
    return undefined;
  }

  #fillHeader(frame: Uint8Array, offload: Offload | undefined, buffers: number): void {
    this.#header.setUint16(VnetHeader.NUM_BUFFERS, buffers, true);
    const takes = this.#has(NetFeature.GUEST_CSUM) && this.#offloads;
    if (offload?.checksum !== undefined && !takes) finishChecksum(frame, offload.checksum);
    writeVnetHeader(this.#header, takes ? offload : undefined);
  }

  /** Commands (5.1.6.5); whatever is not understood is answered with an error. */
  #control(queue: Virtqueue, chain: Chain): void {
    const command = new Uint8Array(Math.min(chain.readableBytes, MAX_CONTROL));
    chain.read(0, command);
    const done = command.length >= 2 && this.#command(command[0]!, command[1]!, command.subarray(2));
    chain.write(0, Uint8Array.of(done ? CONTROL_OK : CONTROL_ERR));
    queue.push(chain, Math.min(1, chain.writableBytes));
  }

  #command(kind: number, command: number, data: Uint8Array): boolean {
    const u16 = data.length >= 2 ? data[0]! | (data[1]! << 8) : undefined;
    switch (kind) {
      case Control.RX:
        return data.length >= 1 && this.#filter.setMode(command, data[0] !== 0);
      case Control.MAC:
        if (command === MacCommand.TABLE_SET) return this.#filter.setTables(data);
        if (command !== MacCommand.ADDR_SET || data.length < 6) return false;
        this.#mac.set(data.subarray(0, 6));
        return true;
      case Control.VLAN:
        if (u16 === undefined || command > VlanCommand.DEL) return false;
        return this.#filter.setVlan(u16, command === VlanCommand.ADD);
      case Control.ANNOUNCE:
        this.#setStatus(LinkStatus.ANNOUNCE, false);
        return true;
      case Control.MQ:
        if (command !== 0 || u16 === undefined || u16 < 1 || u16 > this.#maxPairs) return false;
        this.#usePairs(u16);
        return true;
      case Control.GUEST_OFFLOADS:
        // Checksums are the first of what the driver may turn off; without them there is nothing else.
        if (command !== 0 || data.length < 8) return false;
        this.#offloads = (data[0]! & Number(NetFeature.GUEST_CSUM)) !== 0;
        return true;
      default:
        return false;
    }
  }

  override start(): void {
    // 5.1.6.1: without mergeable buffers drivers from before virtio 1 know nothing of their number.
    const isShort = this.link.isLegacy && !this.#has(NetFeature.MRG_RXBUF);
    this.#headerLength = isShort ? VnetHeader.NUM_BUFFERS : VnetHeader.LENGTH;
  }

  override stop(): void {
    this.#filter = new ReceiveFilter();
    this.#usePairs(1);
    this.#offloads = true;
    this.#refused = false;
    this.#mac.set(this.#config.mac);
    this.#port.reset?.();
  }

  override pause(): void {
    this.#paused = true;
  }

  override resume(): void {
    this.#paused = false;
  }

  override save(): SavedState {
    return record.save({
      mac: formatMac(this.#mac),
      linkUp: this.#config.has(LinkStatus.UP),
      announcing: this.#config.has(LinkStatus.ANNOUNCE),
      pairs: this.#pairs,
      offloads: this.#offloads,
      filter: this.#filter.save(),
    });
  }

  #restore(saved: SavedState): void {
    const state = record.restore(saved);
    const mac = parseMac(state.mac);
    if (mac !== undefined) this.#mac.set(mac);
    this.#pairs = Math.min(state.pairs, this.#maxPairs);
    this.#offloads = state.offloads;
    this.#filter = new ReceiveFilter(state.filter);
    this.#config.set(LinkStatus.UP, state.linkUp);
    this.#config.set(LinkStatus.ANNOUNCE, state.announcing);
  }
}

function offered(port: PacketPort, mtu: boolean, pairs: boolean): bigint {
  const { CSUM, HOST_TSO4, HOST_TSO6, HOST_ECN, HOST_UFO } = NetFeature;
  const { GUEST_CSUM, GUEST_TSO4, GUEST_TSO6, GUEST_ECN, GUEST_UFO } = NetFeature;
  return (
    NetFeature.MAC |
    NetFeature.STATUS |
    NetFeature.MRG_RXBUF |
    NetFeature.CTRL_VQ |
    NetFeature.CTRL_RX |
    NetFeature.CTRL_RX_EXTRA |
    NetFeature.CTRL_VLAN |
    NetFeature.CTRL_MAC_ADDR |
    NetFeature.GUEST_ANNOUNCE |
    (mtu ? NetFeature.MTU : 0n) |
    (pairs ? NetFeature.MQ : 0n) |
    (port.takesOffloads ? CSUM | HOST_TSO4 | HOST_TSO6 | HOST_ECN : 0n) |
    (port.hasLargeDatagrams ? HOST_UFO | GUEST_UFO : 0n) |
    (port.givesOffloads ? GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6 | GUEST_ECN | NetFeature.CTRL_GUEST_OFFLOADS : 0n)
  );
}

/** Which of so many queues a frame belongs into: packets of one flow always into the same. */
function flowOf(frame: Uint8Array, count: number): number {
  if (count === 1) return 0;
  // IPv4's or IPv6's addresses and the ports behind them, wherever exactly they are.
  let hash = 0;
  const end = Math.min(frame.length, 58);
  for (let at = 26; at < end && at < 38; at++) hash = (Math.imul(hash, 31) + frame[at]!) >>> 0;
  if (frame[12] === 0x86 && frame[13] === 0xdd)
    for (let at = 38; at < end; at++) hash = (Math.imul(hash, 31) + frame[at]!) >>> 0;
  return hash % count;
}
