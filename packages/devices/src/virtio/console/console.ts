/** The console device (virtio 1.2, 5.3): terminals and channels between guest and host. */

import { DeviceError } from "../../errors.ts";
import { flag, list, type SavedState, stateRecord, u16 } from "../../state.ts";
import { DeviceType, VirtioDevice } from "../device.ts";
import {
  CONTROL_LENGTH,
  CONTROL_TO_DEVICE,
  CONTROL_TO_DRIVER,
  Config,
  ConsoleFeature,
  ControlEvent,
  firstQueue,
  portOf,
} from "./layout.ts";
import { ConsolePort, type PortOptions, portState } from "./port.ts";

const QUEUE_SIZE = 128;
const MOST_PORTS = 31;

export interface ConsoleOptions {
  /** Port 0 and on. The first is all that a driver without multi-port has. */
  ports: readonly PortOptions[];
  /** Of the terminal; 80 by 25 unless said. */
  columns?: number;
  rows?: number;
}

/** What is to be said to the driver about a port; told in this order when there are buffers. */
const Message = { ADD: 1, CONSOLE: 2, NAME: 4, RESIZE: 8, OPEN: 16 } as const;
const MESSAGES = Object.values(Message);

const record = stateRecord("virtio-console", 1, {
  columns: u16,
  rows: u16,
  driverReady: flag,
  messages: list(u16, MOST_PORTS),
  ports: list(portState, MOST_PORTS),
});

export class ConsoleDevice extends VirtioDevice {
  readonly type = DeviceType.CONSOLE;
  readonly features = ConsoleFeature.SIZE | ConsoleFeature.MULTIPORT;
  readonly queueSizes: readonly number[];
  readonly config = new Uint8Array(Config.LENGTH);
  readonly ports: readonly ConsolePort[];
  readonly #config = new DataView(this.config.buffer);
  /** What each port has to say, as a set of {@link Message}: however the driver behaves, there is no more than that. */
  readonly #messages: number[];
  #driverReady = false;
  #paused = false;

  constructor({ ports, columns = 80, rows = 25 }: ConsoleOptions, saved?: SavedState) {
    super();
    if (ports.length < 1 || ports.length > MOST_PORTS) {
      throw new DeviceError(
        "DEVICE_CONFIGURATION",
        `a console of ${ports.length} ports: 1 to ${MOST_PORTS} are possible`,
      );
    }
    for (const { name } of ports) {
      if (name === undefined || (name !== "" && Buffer.byteLength(name) < 256)) continue;
      throw new DeviceError("DEVICE_CONFIGURATION", `the port name ${JSON.stringify(name)} has not 1 to 255 bytes`);
    }
    const state = saved === undefined ? undefined : record.restore(saved);
    if (state !== undefined && (state.ports.length !== ports.length || state.messages.length !== ports.length)) {
      const counts = `ports has ${state.ports.length}, and this device has ${ports.length}`;
      throw new DeviceError("DEVICE_STATE", `the saved state of virtio-console is of another device: ${counts}`);
    }
    this.queueSizes = Array.from({ length: 2 * (ports.length + 1) }, () => QUEUE_SIZE);
    this.ports = ports.map((options, port) => {
      const queues = () => {
        const first = firstQueue(port);
        const { queues: all } = this.link;
        return this.#paused ? NO_QUEUES : { toDriver: all[first], toDevice: all[first + 1] };
      };
      return new ConsolePort(options, queues, () => this.#say(port, Message.OPEN), state?.ports[port]);
    });
    this.#messages = state?.messages ?? ports.map(() => 0);
    this.#driverReady = state?.driverReady ?? false;
    this.#config.setUint16(Config.COLUMNS, state?.columns ?? columns, true);
    this.#config.setUint16(Config.ROWS, state?.rows ?? rows, true);
    this.#config.setUint32(Config.MAX_PORTS, ports.length, true);
  }

  /** The terminal has another size. */
  resize(columns: number, rows: number): void {
    this.#config.setUint16(Config.COLUMNS, columns, true);
    this.#config.setUint16(Config.ROWS, rows, true);
    this.link.configChanged();
    for (const [port, { options }] of this.ports.entries()) if (options.console) this.#say(port, Message.RESIZE);
  }

  get #multiport(): boolean {
    return (this.link.features & ConsoleFeature.MULTIPORT) !== 0n;
  }

  override start(): void {
    // 5.3.5: without control messages the one port is simply there.
    if (!this.#multiport) this.ports[0]!.setGuestOpen(true);
  }

  override notified(queue: number): void {
    if (this.#paused) return;
    if (queue === CONTROL_TO_DRIVER) this.#tell();
    else if (queue === CONTROL_TO_DEVICE) this.#listen();
    else if (queue & 1) this.ports[portOf(queue)]!.take();
    else this.ports[portOf(queue)]!.flush();
  }

  override stop(): void {
    this.#driverReady = false;
    this.#messages.fill(0);
    for (const port of this.ports) port.reset();
  }

  override pause(): void {
    this.#paused = true;
  }

  override resume(): void {
    this.#paused = false;
  }

  override save(): SavedState {
    return record.save({
      columns: this.#config.getUint16(Config.COLUMNS, true),
      rows: this.#config.getUint16(Config.ROWS, true),
      driverReady: this.#driverReady,
      messages: [...this.#messages],
      ports: this.ports.map((port) => port.save()),
    });
  }

  /** Control messages of the driver (5.3.6.2.2). What makes no sense is passed over. */
  #listen(): void {
    const queue = this.link.queues[CONTROL_TO_DEVICE];
    const message = new DataView(new ArrayBuffer(CONTROL_LENGTH));
    queue?.serve((chain) => {
      if (chain.read(0, new Uint8Array(message.buffer)) === CONTROL_LENGTH) {
        this.#hear(message.getUint32(0, true), message.getUint16(4, true), message.getUint16(6, true));
      }
      queue.push(chain, 0);
    });
  }

  #hear(number: number, event: number, value: number): void {
    if (event === ControlEvent.DEVICE_READY) {
      this.#driverReady = value === 1;
      if (this.#driverReady) for (const port of this.ports.keys()) this.#say(port, Message.ADD);
      return;
    }
    const port = this.ports[number];
    if (port === undefined) return;
    if (event === ControlEvent.PORT_READY && value === 1) {
      const console = port.options.console ? Message.CONSOLE | Message.RESIZE : 0;
      const name = port.options.name === undefined ? 0 : Message.NAME;
      this.#say(number, console | name | (port.connected ? Message.OPEN : 0));
    } else if (event === ControlEvent.PORT_OPEN) {
      port.setGuestOpen(value === 1);
    }
  }

  #say(port: number, messages: number): void {
    if (!this.#multiport || !this.#driverReady) return;
    this.#messages[port]! |= messages;
    this.#tell();
  }

  /** Puts what is to be said into the driver's buffers, as far as they reach. */
  #tell(): void {
    const queue = this.link.queues[CONTROL_TO_DRIVER];
    if (queue === undefined || this.#paused || this.#messages.every((messages) => messages === 0)) return;
    queue.serve((chain) => {
      const port = this.#messages.findIndex((messages) => messages !== 0);
      if (port < 0) return false;
      const message = MESSAGES.find((one) => this.#messages[port]! & one)!;
      this.#messages[port]! &= ~message;
      queue.push(chain, chain.write(0, this.#encode(port, message)));
      return true;
    });
  }

  #encode(number: number, message: number): Uint8Array {
    const port = this.ports[number]!;
    const encode = (event: number, value: number, rest: Uint8Array = new Uint8Array(0)) => {
      const view = new DataView(new ArrayBuffer(CONTROL_LENGTH + rest.length));
      view.setUint32(0, number, true);
      view.setUint16(4, event, true);
      view.setUint16(6, value, true);
      const bytes = new Uint8Array(view.buffer);
      bytes.set(rest, CONTROL_LENGTH);
      return bytes;
    };
    switch (message) {
      case Message.ADD:
        return encode(ControlEvent.PORT_ADD, 0);
      case Message.CONSOLE:
        return encode(ControlEvent.CONSOLE_PORT, 1);
      case Message.NAME:
        return encode(ControlEvent.PORT_NAME, 1, new TextEncoder().encode(port.options.name));
      case Message.RESIZE:
        // As the specification has it, and Linux since 2025; before that it took the rows for the columns.
        return encode(ControlEvent.RESIZE, 0, this.config.subarray(Config.COLUMNS, Config.ROWS + 2));
      default:
        return encode(ControlEvent.PORT_OPEN, port.connected ? 1 : 0);
    }
  }
}

const NO_QUEUES = { toDriver: undefined, toDevice: undefined };
