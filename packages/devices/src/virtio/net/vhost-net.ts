/**
 * A network device whose frames are carried elsewhere: by another process (vhost-user: passt, Open vSwitch, DPDK), or by the kernel
 * (vhost-net). Who does has the guest's memory and the rings in it; the driver's doorbells reach it without this process where they
 * are eventfds. What is done here is what has nothing to do with frames: the configuration, the control queue, the rings' beginning
 * and end, and the connection, which comes again after another process was away. To the guest that is a pulled cable.
 */

import { Eventfd } from "@lodge/linux";
import { DeviceError } from "../../errors.ts";
import { flag, integer, type SavedState, stateRecord } from "../../state.ts";
import { DeviceType, type DriverLink, Feature, VirtioDevice } from "../device.ts";
import { type Chain, SplitQueue, type Virtqueue } from "../queue/index.ts";
import type { BackEnd, Vring } from "../vhost/back-end.ts";
import { KernelBackEnd, type ServedTap } from "../vhost/kernel-back-end.ts";
import { UserBackEnd } from "../vhost/user-back-end.ts";
import { type CardOptions, MOST_PAIRS, NetConfig } from "./config.ts";
import { CONTROL_ERR, CONTROL_OK, Control, LinkStatus, NetFeature } from "./layout.ts";

const QUEUE_SIZE = 256;
const AGAIN_MS = 500;

/** Of the rings and of the frames in them, which are the back end's to have or not. */
const RING_FEATURES = Feature.INDIRECT_DESC | Feature.EVENT_IDX;
const FRAME_FEATURES =
  NetFeature.CSUM |
  NetFeature.GUEST_CSUM |
  NetFeature.GUEST_TSO4 |
  NetFeature.GUEST_TSO6 |
  NetFeature.GUEST_ECN |
  NetFeature.HOST_TSO4 |
  NetFeature.HOST_TSO6 |
  NetFeature.HOST_ECN |
  NetFeature.MRG_RXBUF;

/** Another process, by the Unix socket at which it listens; or the kernel, by the tap whose frames it carries. */
export type VhostServer = { readonly path: string } | { readonly tap: ServedTap };

export interface VhostNetOptions extends CardOptions {
  readonly server: VhostServer;
  /** Told when it went away, and when it came back without what the guest uses. */
  readonly onTrouble?: (message: string) => void;
}

const record = stateRecord("vhost-user-net", 1, {
  linkUp: flag,
  announcing: flag,
  pairs: integer(1, MOST_PAIRS),
});

export class VhostNetDevice extends VirtioDevice implements Disposable {
  readonly type = DeviceType.NET;
  /** Back ends would have to be told of the shorter headers. */
  override readonly isTransitional = false;
  readonly features: bigint;
  readonly queueSizes: readonly number[];
  readonly config: Uint8Array;
  readonly #config: NetConfig;
  readonly #options: VhostNetOptions;
  readonly #maxPairs: number;
  readonly #needsFile: boolean;
  /** By queue: what the back end rings, and what the driver rings unless its doorbell is an eventfd. */
  readonly #calls: readonly Eventfd[];
  readonly #kicks: readonly Eventfd[];
  readonly #watches: readonly Disposable[];
  readonly #doorbells = new Map<number, Eventfd>();
  #controlWatch: Disposable | undefined;
  #backEnd: BackEnd | undefined;
  #again: NodeJS.Timeout | undefined;
  /** The rings that the back end has now. */
  #served: readonly Vring[] = [];
  #pairs = 1;
  #cable = true;
  #started = false;
  #paused = false;
  #disposed = false;
  /** There is a machine, or was one. */
  #hasMachine = false;
  /** What was said last: who is connected to again and again in vain says it once. */
  #said = "";
  /** Handing over and taking back, one after the other. */
  #last: Promise<void> = Promise.resolve();

  /** Connects to the back end, which decides what the card can do. Throws a `NetworkError`. */
  static async connect(options: VhostNetOptions, saved?: SavedState): Promise<VhostNetDevice> {
    const config = new NetConfig(options);
    using undo = new DisposableStack();
    const backEnd = undo.use(await connect(options.server));
    const { pairs = 1 } = options;
    if (pairs > backEnd.pairs) {
      throw new DeviceError(
        "DEVICE_CONFIGURATION",
        `${nameOf(options.server)}: ${pairs} queues in each direction, and who listens there serves ${backEnd.pairs}`,
      );
    }
    const device = new VhostNetDevice(options, config, backEnd, saved);
    undo.move();
    return device;
  }

  private constructor(options: VhostNetOptions, config: NetConfig, backEnd: BackEnd, saved?: SavedState) {
    super();
    const { mtu, pairs = 1 } = options;
    this.#options = options;
    this.#config = config;
    this.config = config.bytes;
    this.#maxPairs = pairs;
    this.#needsFile = backEnd.needsFile;
    this.queueSizes = Array.from({ length: 2 * pairs + 1 }, () => QUEUE_SIZE);
    this.features =
      NetFeature.MAC |
      NetFeature.STATUS |
      NetFeature.CTRL_VQ |
      NetFeature.GUEST_ANNOUNCE |
      (mtu === undefined ? 0n : NetFeature.MTU) |
      (pairs > 1 ? NetFeature.MQ : 0n) |
      (backEnd.features & FRAME_FEATURES);
    // Of a packed ring nobody but its server knows where it is, and that one may be killed.
    this.ringFeatures = backEnd.features & RING_FEATURES;
    this.#calls = Array.from({ length: 2 * pairs }, () => new Eventfd());
    this.#kicks = this.#calls.map(() => new Eventfd());
    this.#watches = this.#calls.map((call, queue) => call.watch(() => this.#used(queue)));
    if (saved !== undefined) this.#restore(saved);
    this.#attach(backEnd);
  }

  override connect(link: DriverLink): void {
    if (link.ram.shared === undefined && this.#needsFile) {
      throw new DeviceError(
        "DEVICE_CONFIGURATION",
        `${nameOf(this.#options.server)}: the machine's memory is not shared, so nobody else can serve its rings`,
      );
    }
    super.connect(link);
    this.#doorbells.clear();
    if (this.#hasMachine) this.#renew();
    this.#hasMachine = true;
  }

  /**
   * The machine begins anew, in other memory. Some back ends hold on to what they were told of the memory before for as long
   * as they are connected, so they are connected to anew.
   */
  #renew(): void {
    if (this.#backEnd === undefined) return;
    this.#backEnd[Symbol.dispose]();
    this.#backEnd = undefined;
    this.#connect();
  }

  override takeDoorbell(queue: number, eventfd: number): boolean {
    if (queue >= this.#calls.length) return false;
    this.#doorbells.set(queue, new Eventfd(eventfd));
    return true;
  }

  /** Plugs the cable in or pulls it out. */
  setLink(up: boolean): void {
    this.#cable = up;
    void this.#follow();
    this.#showLink();
  }

  /** Whether the cable is plugged in; the guest sees a link only when somebody serves it, too. */
  get linkUp(): boolean {
    return this.#cable;
  }

  /** Has the guest say who and where it is, so that switches learn: after it came here from another host. */
  announce(): void {
    if (this.#has(NetFeature.GUEST_ANNOUNCE)) {
      this.#config.set(LinkStatus.ANNOUNCE, true);
      this.link.configChanged();
    } else this.#backEnd?.announce(this.#config.mac);
  }

  #showLink(): void {
    const up = this.#cable && this.#backEnd !== undefined;
    if (up === this.#config.has(LinkStatus.UP)) return;
    this.#config.set(LinkStatus.UP, up);
    this.link.configChanged();
  }

  #has(feature: bigint): boolean {
    return (this.link.features & feature) !== 0n;
  }

  #attach(backEnd: BackEnd): void {
    this.#backEnd = backEnd;
    if (this.#options.mtu !== undefined) backEnd.setMtu(this.#options.mtu);
    backEnd.onEnd((why) => this.#lost(why));
    this.#showLink();
    void this.#follow();
  }

  #lost(why: string): void {
    this.#backEnd = undefined;
    this.#takeBack();
    this.#trouble(`${why}; it is connected to again when it is back`);
    this.#connectLater();
  }

  #trouble(what: string): void {
    if (what === this.#said) return;
    this.#said = what;
    this.#options.onTrouble?.(`${nameOf(this.#options.server)}: ${what}`);
  }

  #connectLater(): void {
    this.#showLink();
    if (!this.#disposed) this.#again = setTimeout(() => this.#connect(), AGAIN_MS);
  }

  #connect(): void {
    connect(this.#options.server).then(
      (backEnd) => this.#returned(backEnd),
      () => this.#connectLater(),
    );
  }

  #returned(backEnd: BackEnd): void {
    const offered = (this.features & FRAME_FEATURES) | this.ringFeatures;
    if (!this.#disposed && (offered & ~backEnd.features) === 0n && backEnd.pairs >= this.#maxPairs) {
      this.#attach(backEnd);
      return;
    }
    backEnd[Symbol.dispose]();
    if (this.#disposed) return;
    this.#trouble("who listens there now cannot do what the guest was told of its card; the cable stays unplugged");
    this.#connectLater();
  }

  override start(): void {
    this.#started = true;
    const second = this.#doorbells.get(2);
    // 5.1.2: a driver that knows of one pair has its control queue where the second pair would begin.
    if (second !== undefined && this.#controlQueue === 2) this.#controlWatch = second.watch(() => this.notified(2));
    void this.#follow();
  }

  override notified(number: number): void {
    if (this.#paused) return;
    const queue = this.link.queues[number];
    if (number === this.#controlQueue) queue?.serve((chain) => this.#control(queue, chain));
    else this.#kick(number)?.signal();
  }

  /** Behind all pairs, or behind the first when the driver knows of one only. */
  get #controlQueue(): number {
    return this.#has(NetFeature.MQ) ? 2 * this.#maxPairs : 2;
  }

  #kick(queue: number): Eventfd | undefined {
    return this.#doorbells.get(queue) ?? this.#kicks[queue];
  }

  /** The back end rings. */
  #used(number: number): void {
    const queue = this.link.queues[number];
    if (queue instanceof SplitQueue && this.#served.some((ring) => ring.queue === number)) queue.usedOutside();
  }

  /** Hands the rings over or takes them back, as things are when it comes to it. */
  #follow(): Promise<void> {
    return this.#inTurn(async (backEnd) => {
      const wanted = this.#started && this.#cable && !this.#paused;
      if (wanted === this.#served.length > 0) return;
      if (wanted) await this.#handOver(backEnd);
      else this.#takeBack(await backEnd.stop(this.#served));
    });
  }

  /** Has the back end do something behind what it is doing. */
  #inTurn(step: (backEnd: BackEnd) => void | Promise<void>): Promise<void> {
    this.#last = this.#last.then(async () => {
      const backEnd = this.#backEnd;
      if (backEnd === undefined) return;
      try {
        await step(backEnd);
      } catch (error) {
        // It is gone, or it is no use: a back end that has refused something is asked again from the beginning.
        backEnd.end((error as Error).message);
      }
    });
    return this.#last;
  }

  async #handOver(backEnd: BackEnd): Promise<void> {
    const rings = this.#calls.flatMap((call, number) => {
      const queue = this.link.queues[number];
      return queue instanceof SplitQueue && queue.usable ? [this.#vring(queue, number, call)] : [];
    });
    if (rings.length === 0) return;
    this.#served = rings;
    await backEnd.start(this.link.features, this.link.ram, rings);
    backEnd.enablePairs(rings, this.#pairs);
    this.#said = "";
    // What was available before.
    for (const { queue } of rings) this.#kick(queue)!.signal();
  }

  #vring({ layout, position }: Virtqueue, queue: number, call: Eventfd): Vring {
    const { ram } = this.link;
    // The queue was opened, so its parts are in RAM.
    const place = (gpa: number) => ram.slice(gpa, 1)!.byteOffset;
    return {
      queue,
      size: layout.size,
      base: position.available,
      descriptors: place(layout.descriptors),
      available: place(layout.driver),
      used: place(layout.device),
      kick: this.#kick(queue)!.fd,
      call: call.fd,
    };
  }

  /** The rings are ours again: where the back end says that it was, or else behind what it had used. */
  #takeBack(positions: readonly number[] = []): void {
    for (const [index, { queue: number }] of this.#served.entries()) {
      const queue = this.link.queues[number];
      if (!(queue instanceof SplitQueue) || !queue.usable) continue;
      // It may have used chains without ringing, which the driver looks at for once.
      queue.usedOutside();
      queue.moveTo(positions[index]);
    }
    this.#served = [];
  }

  #control(queue: Virtqueue, chain: Chain): void {
    const command = new Uint8Array(4);
    const length = chain.read(0, command);
    const done = length >= 2 && this.#command(command[0]!, command[1]!, command.subarray(2, length));
    chain.write(0, Uint8Array.of(done ? CONTROL_OK : CONTROL_ERR));
    queue.push(chain, Math.min(1, chain.writableBytes));
  }

  #command(kind: number, command: number, data: Uint8Array): boolean {
    if (kind === Control.ANNOUNCE) {
      this.#config.set(LinkStatus.ANNOUNCE, false);
      this.link.configChanged();
      return true;
    }
    if (kind !== Control.MQ || command !== 0 || data.length < 2) return false;
    const pairs = data[0]! | (data[1]! << 8);
    if (pairs < 1 || pairs > this.#maxPairs) return false;
    this.#pairs = pairs;
    void this.#inTurn((backEnd) => backEnd.enablePairs(this.#served, this.#pairs));
    return true;
  }

  override async stop(): Promise<void> {
    this.#started = false;
    this.#controlWatch?.[Symbol.dispose]();
    this.#controlWatch = undefined;
    await this.#follow();
    this.#pairs = 1;
  }

  override async pause(): Promise<void> {
    this.#paused = true;
    await this.#follow();
  }

  override resume(): void {
    this.#paused = false;
    void this.#follow();
  }

  override save(): SavedState {
    const announcing = this.#config.has(LinkStatus.ANNOUNCE);
    return record.save({ linkUp: this.#cable, announcing, pairs: this.#pairs });
  }

  #restore(saved: SavedState): void {
    const state = record.restore(saved);
    this.#cable = state.linkUp;
    this.#pairs = Math.min(state.pairs, this.#maxPairs);
    this.#paused = true;
    this.#config.set(LinkStatus.UP, state.linkUp);
    this.#config.set(LinkStatus.ANNOUNCE, state.announcing);
  }

  /** After the transport has closed. */
  [Symbol.dispose](): void {
    this.#disposed = true;
    clearTimeout(this.#again);
    this.#backEnd?.[Symbol.dispose]();
    for (const watch of this.#watches) watch[Symbol.dispose]();
    for (const eventfd of [...this.#calls, ...this.#kicks]) eventfd.close();
  }
}

async function connect(server: VhostServer): Promise<BackEnd> {
  return "tap" in server ? new KernelBackEnd(server.tap) : UserBackEnd.connect(server.path);
}

function nameOf(server: VhostServer): string {
  return "tap" in server ? "vhost-net" : `vhost-user ${server.path}`;
}
