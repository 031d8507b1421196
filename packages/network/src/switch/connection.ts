/**
 * The way to a network's process: it is started by who needs it first, and again by those who are left when it was killed.
 */

import { spawn } from "node:child_process";
import { text as textOf } from "node:stream/consumers";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Errno, SystemError } from "@lodge/linux";
import { checkDefinition } from "../definition/definition.ts";
import { readNetwork, writeNetwork } from "../definition/store.ts";
import { NetworkError } from "../errors.ts";
import { connectUnix, type UnixStream } from "../host/unix-stream.ts";
import { formatForward, parseForward } from "../nat/forward.ts";
import { switchPlace } from "./place.ts";
import { type Hello, type PortHello, receiveLine, type SwitchStatus, sendLine } from "./protocol.ts";

const DAEMON = fileURLToPath(new URL("./daemon.ts", import.meta.url));
/** Somebody else is about to serve the network, or was about to end: it is tried again after so long, so often. */
const AGAIN_MS = 25;
const MOST_TRIES = 200;
/** How a connect fails where nobody listens, or where more wait than may. */
const NOBODY: ReadonlySet<number> = new Set([Errno.ENOENT, Errno.ECONNREFUSED, Errno.ECONNRESET, Errno.EAGAIN]);
/** A switch that cannot be had for a machine that runs: longer each time, up to this. */
const LONGEST_PAUSE_MS = 5000;

/** A connection to a network's switch, with what it answered; the switch is started if there is none. */
async function open(name: string, hello: Hello): Promise<{ socket: UnixStream; answer: Record<string, unknown> }> {
  const { socket: path } = switchPlace(name);
  for (let tries = 0; tries < MOST_TRIES; tries++) {
    const socket = dial(path);
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
async function ask(socket: UnixStream, hello: Hello): Promise<Record<string, unknown> | undefined> {
  sendLine(socket, hello);
  try {
    return await receiveLine(socket);
  } catch (error) {
    if (!socket.destroyed) throw error;
    return undefined;
  }
}

/** Undefined where nobody listens, or not yet. */
function dial(path: string): UnixStream | undefined {
  try {
    const socket = connectUnix(path);
    return socket.on("error", () => socket.destroy());
  } catch (error) {
    if (error instanceof SystemError && NOBODY.has(error.errno)) return undefined;
    throw new NetworkError("NETWORK_HOST", `${path}: ${(error as Error).message}`, { cause: error });
  }
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

export interface MemberOptions extends Omit<PortHello, "want"> {
  readonly network: string;
}

/** What a network answers to a machine. */
export interface Welcome {
  readonly mtu: number;
  /** The kernel's bridge that it is, if it is one. */
  readonly bridge?: string;
  /** Of such a network: its own DHCP server's address. */
  readonly dhcp?: string;
  /** Of such a network: addresses that are no machine's. */
  readonly reserved?: readonly string[];
}

/** A machine's place on a network, which it takes again when the network's process is another one. */
export class Membership implements Disposable {
  readonly welcome: Welcome;
  readonly #options: MemberOptions;
  readonly #end = new AbortController();
  #socket: UnixStream | undefined;
  #joined: ((socket: UnixStream) => void) | undefined;

  /** Throws a `NetworkError` where there is no network of that name, or it will not have this machine. */
  static async take(options: MemberOptions): Promise<Membership> {
    readNetwork(options.network);
    const { socket, answer } = await Membership.#open(options);
    return new Membership(options, socket, answer as unknown as Welcome);
  }

  static #open({ network, ...hello }: MemberOptions): ReturnType<typeof open> {
    return open(network, { want: "port", ...hello });
  }

  private constructor(options: MemberOptions, socket: UnixStream, welcome: Welcome) {
    this.#options = options;
    this.welcome = welcome;
    this.#attach(socket);
  }

  /** Undefined while there is none. */
  get socket(): UnixStream | undefined {
    return this.#socket;
  }

  /** Called now, and with every later socket; it is paused. */
  onJoined(joined: (socket: UnixStream) => void): void {
    this.#joined = joined;
    if (this.#socket !== undefined) joined(this.#socket);
  }

  #attach(socket: UnixStream): void {
    this.#socket = socket;
    socket.once("close", () => {
      this.#socket = undefined;
      void this.#joinAgain();
    });
    this.#joined?.(socket);
  }

  async #joinAgain(): Promise<void> {
    const { signal } = this.#end;
    for (let pause = AGAIN_MS; !signal.aborted; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
      try {
        const { socket } = await Membership.#open(this.#options);
        if (signal.aborted) socket.destroy();
        else this.#attach(socket);
        return;
      } catch {
        // Its definition is gone, or somebody has our address now: neither need be so for ever.
        await delay(pause, undefined, { signal, ref: false }).catch(() => {});
      }
    }
  }

  [Symbol.dispose](): void {
    this.#end.abort();
    this.#socket?.removeAllListeners("close").destroy();
  }
}

/** Adds or removes a port forward of a network, for later and, if it is served, for now. Throws a `NetworkError`. */
export async function changeForward(name: string, change: { readonly add: string } | { readonly remove: string }) {
  const definition = readNetwork(name);
  const before = (definition.forwards ?? []).map((text) => formatForward(parseForward(text)));
  const text = formatForward(parseForward("add" in change ? change.add : change.remove));
  if ("remove" in change && !before.includes(text)) {
    throw new NetworkError("NETWORK_CONFIG", `network ${name} has no forward ${text}; see lodge net forward ${name}`);
  }
  const forwards = "add" in change ? [...before, text] : before.filter((one) => one !== text);
  const changed = checkDefinition({ ...definition, forwards });
  if ("add" in change && before.includes(text)) {
    throw new NetworkError("NETWORK_CONFIG", `${text} is forwarded already`);
  }
  const socket = dial(switchPlace(name).socket);
  if (socket !== undefined) {
    sendLine(socket, { want: "forward", ...change });
    const { error } = JSON.parse((await textOf(socket).catch(() => "")) || "{}");
    if (typeof error === "string") throw new NetworkError("NETWORK_HOST", `network ${name}: ${error}`);
  }
  writeNetwork(changed);
}

/** What a network's switch is doing; undefined while no machine is on it. */
export async function switchStatus(name: string): Promise<SwitchStatus | undefined> {
  const socket = dial(switchPlace(readNetwork(name).name).socket);
  if (socket === undefined) return undefined;
  sendLine(socket, { want: "status" });
  // Reset: it was about to end.
  const answer = await textOf(socket).catch(() => "");
  if (answer === "") return undefined;
  const status: unknown = JSON.parse(answer);
  const { error } = status as { error?: string };
  if (error !== undefined) throw new NetworkError("NETWORK_HOST", `network ${name}: ${error}`);
  return status as SwitchStatus;
}

/** A capture of everything on a network from now on, as pcap; ends with the network's process, or when it is destroyed. */
export async function dumpSwitch(name: string): Promise<UnixStream> {
  readNetwork(name);
  const { socket } = await open(name, { want: "dump" });
  return socket;
}
