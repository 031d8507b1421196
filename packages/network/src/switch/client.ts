/**
 * A machine's card on a named network. Its switch is another process; when that is gone the machines that are left start it
 * anew, and what is sent meanwhile is lost, as when a switch restarts.
 */

import { spawn } from "node:child_process";
import { connect, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { readNetwork } from "../definition/store.ts";
import { NetworkError } from "../errors.ts";
import { cutSegments } from "../packet/cut.ts";
import type { GuestSide, Offload, PacketPort } from "../port.ts";
import { switchPlace } from "./place.ts";
import {
  CarriedFrames,
  encodeFrame,
  type Hello,
  type PortHello,
  receiveLine,
  type SwitchStatus,
  sendLine,
} from "./protocol.ts";

const DAEMON = fileURLToPath(new URL("./daemon.ts", import.meta.url));
/** Bytes that the switch leaves untaken before frames for it are lost. */
const MOST_WAITING = 4 << 20;
/** Somebody else is about to serve the network, or was about to end: it is tried again after so long, so often. */
const AGAIN_MS = 25;
const MOST_TRIES = 200;
/** A switch that cannot be had for a machine that runs: longer each time, up to this. */
const LONGEST_PAUSE_MS = 5000;

/** A connection to a network's switch, with what it answered; the switch is started if there is none. */
async function open(name: string, hello: Hello): Promise<{ socket: Socket; answer: Record<string, unknown> }> {
  const { socket: path } = switchPlace(name);
  for (let tries = 0; tries < MOST_TRIES; tries++) {
    const socket = await dial(path);
    if (socket !== undefined) {
      const answer = await ask(socket, hello);
      if (answer !== undefined) {
        if (typeof answer.error === "string")
          throw new NetworkError("NETWORK_HOST", `network ${name}: ${answer.error}`);
        return { socket, answer };
      }
    } else if ((await startDaemon(name)) === "ready") continue;
    await delay(AGAIN_MS);
  }
  throw new NetworkError("NETWORK_HOST", `network ${name}: the process that has ${path} does not answer; end it`);
}

/** Undefined where the switch has just ended. */
async function ask(socket: Socket, hello: Hello): Promise<Record<string, unknown> | undefined> {
  sendLine(socket, hello);
  try {
    return await receiveLine(socket);
  } catch (error) {
    if (!socket.destroyed) throw error;
    return undefined;
  }
}

function dial(path: string): Promise<Socket | undefined> {
  const socket = connect(path);
  return new Promise((resolve, reject) => {
    socket.once("connect", () => {
      socket.off("error", failed).on("error", () => socket.destroy());
      resolve(socket);
    });
    const failed = (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT" || error.code === "ECONNREFUSED" || error.code === "ECONNRESET") resolve(undefined);
      else reject(new NetworkError("NETWORK_HOST", `${path}: ${error.message}`, { cause: error }));
    };
    socket.once("error", failed);
  });
}

async function startDaemon(name: string): Promise<"ready" | "busy"> {
  readNetwork(name);
  const { NODE_OPTIONS: _, ...env } = process.env;
  const child = spawn(process.execPath, [DAEMON, name], {
    detached: true,
    cwd: "/",
    env,
    stdio: ["ignore", "pipe", "ignore"],
  });
  const started = new Promise<void>((resolve, reject) => child.once("spawn", resolve).once("error", reject));
  await started;
  const said = await new Promise<string>((resolve, reject) => {
    child.stdout.once("data", (data: Buffer) => resolve(data.toString().trim()));
    child.stdout.once("end", () => resolve(""));
    child.stdout.once("error", reject);
  });
  child.stdout.destroy();
  child.unref();
  if (said === "ready" || said === "busy") return said;
  throw new NetworkError("NETWORK_HOST", said === "" ? `network ${name}: its process ended at once` : said);
}

export interface SwitchClientOptions extends Omit<PortHello, "want"> {
  readonly network: string;
}

export class SwitchClient implements PacketPort, Disposable {
  readonly takesOffloads = true;
  readonly givesOffloads = true;
  /** The largest IP packet of the network. */
  readonly mtu: number;
  readonly #options: SwitchClientOptions;
  #frames = new CarriedFrames();
  /** What is left of a large packet that was cut for the guest. */
  #pieces: Uint8Array[] = [];
  #guest: GuestSide | undefined;
  #socket: Socket | undefined;
  readonly #end = new AbortController();
  /** Frames that the switch was too slow for, or was not there for. */
  lost = 0;

  /** Joins a network. Throws a `NetworkError` where there is none of that name, or it will not have this machine. */
  static async join(options: SwitchClientOptions): Promise<SwitchClient> {
    readNetwork(options.network);
    const { network, ...hello } = options;
    const { socket, answer } = await open(network, { want: "port", ...hello });
    return new SwitchClient(options, socket, Number(answer.mtu));
  }

  private constructor(options: SwitchClientOptions, socket: Socket, mtu: number) {
    this.#options = options;
    this.mtu = mtu;
    this.#attach(socket);
  }

  get isConnected(): boolean {
    return this.#socket !== undefined;
  }

  #attach(socket: Socket): void {
    this.#socket = socket;
    this.#frames = new CarriedFrames();
    socket.on("data", (data: Buffer) => {
      this.#frames.add(data);
      this.#deliver();
    });
    socket.once("close", () => {
      this.#socket = undefined;
      void this.#joinAgain();
    });
    socket.resume();
  }

  async #joinAgain(): Promise<void> {
    const { network, ...hello } = this.#options;
    const { signal } = this.#end;
    for (let pause = AGAIN_MS; !signal.aborted; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
      try {
        const { socket } = await open(network, { want: "port", ...hello });
        if (signal.aborted) socket.destroy();
        else this.#attach(socket);
        return;
      } catch {
        // Its definition is gone, or somebody has our address now: neither need be so for ever.
        await delay(pause, undefined, { signal, ref: false }).catch(() => {});
      }
    }
  }

  connect(guest: GuestSide): void {
    this.#guest = guest;
    this.#deliver();
  }

  room(): void {
    this.#deliver();
  }

  reset(): void {
    this.#pieces = [];
    this.#deliver();
  }

  #deliver(): void {
    const guest = this.#guest;
    if (guest === undefined) return void this.#socket?.pause();
    for (;;) {
      while (this.#pieces.length > 0) {
        // What more comes waits in the sockets.
        if (!guest.receive(this.#pieces[0]!)) return void this.#socket?.pause();
        this.#pieces.shift();
      }
      const next = this.#frames.next;
      if (next === undefined) break;
      if (next === false) return void this.#socket?.destroy();
      const { frame, offload } = next;
      const { segments } = offload ?? {};
      const takes = guest.takes;
      if (segments === undefined || (segments.version === 4 ? takes.tcp4 : takes.tcp6)) {
        if (!guest.receive(frame, offload)) return void this.#socket?.pause();
      } else this.#pieces = cutSegments(frame, offload as Required<Offload>);
      this.#frames.take();
    }
    this.#socket?.resume();
  }

  transmit(frame: Uint8Array, offload?: Offload): void {
    const socket = this.#socket;
    if (socket === undefined || !socket.writable || socket.writableLength > MOST_WAITING) this.lost += 1;
    else socket.write(encodeFrame(frame, offload));
  }

  [Symbol.dispose](): void {
    this.#end.abort();
    this.#socket?.removeAllListeners("close").destroy();
  }
}

/** What a network's switch is doing; undefined while no machine is on it. */
export async function switchStatus(name: string): Promise<SwitchStatus | undefined> {
  const socket = await dial(switchPlace(readNetwork(name).name).socket);
  if (socket === undefined) return undefined;
  sendLine(socket, { want: "status" });
  const answer = await text(socket);
  if (answer === "") return undefined;
  const status: unknown = JSON.parse(answer);
  const { error } = status as { error?: string };
  if (error !== undefined) throw new NetworkError("NETWORK_HOST", `network ${name}: ${error}`);
  return status as SwitchStatus;
}

/** A capture of everything on a network from now on, as pcap; ends with the network's process, or when it is destroyed. */
export async function dumpSwitch(name: string): Promise<Socket> {
  readNetwork(name);
  const { socket } = await open(name, { want: "dump" });
  return socket;
}
