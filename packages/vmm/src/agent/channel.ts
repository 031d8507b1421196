/**
 * One agent in the guest (guest/agent), which runs one command at a time: four ports of the virtio console, for jobs and
 * what is said of them, stdin, stdout and stderr.
 *
 * To the guest: `run BASE64`, `signal NAME`, `window DEVICE rows R cols C`. From it: `ready`, at its start and behind each
 * command; `started`, when a signal would find the command; `exit STATUS`, upon which it wants its input ended.
 */

import { Readable, Writable } from "node:stream";
import type { ConsolePort, PortOptions } from "@lodge/devices";
import type { VmmError } from "../errors.ts";

/** A command that runs in the guest. */
export interface GuestProcess {
  /** Ending it is the end of file for the command. */
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /**
   * The command's status, 128 and its number for a signal that ended it, once its output is at its end, too. Rejects when
   * the machine ends before.
   */
  readonly exited: Promise<number>;
  /** Sends a signal to all processes of the command. */
  kill(signal: NodeJS.Signals): void;
}

/** A line of the agent's is short; what is longer is not the agent. */
const LONGEST_LINE = 64;

export class AgentChannel {
  /** For the console device, in this order. */
  readonly portOptions: readonly PortOptions[];
  readonly #onFree: () => void;
  #isReady = false;
  #ports: { control: ConsolePort; stdin: ConsolePort; stdout: ConsolePort; stderr: ConsolePort } | undefined;
  #line = "";
  /** What the agent did not have room for yet. */
  #unsent: Buffer = Buffer.alloc(0);
  #running: RunningProcess | undefined;

  /** `onFree` is told whenever the agent {@link isFree} from now on. */
  constructor(name: string, onFree: () => void) {
    this.#onFree = onFree;
    this.portOptions = [
      {
        name: `${name}.jobs`,
        connected: true,
        onData: (data) => this.#read(data),
        onDrain: () => this.#send(""),
      },
      {
        name: `${name}.stdin`,
        // Before a command is there: one that reads its input before it hears that somebody is on this side would find it ended.
        connected: true,
        onData: () => true,
        onDrain: () => this.#running?.inputDrained(),
        onOpen: (open) => {
          if (!open) this.#inputClosed();
        },
      },
      this.#output("stdout", name),
      this.#output("stderr", name),
    ];
  }

  #output(which: "stdout" | "stderr", name: string): PortOptions {
    return {
      name: `${name}.${which}`,
      connected: true,
      onData: (data) => this.#running?.[which].push(Buffer.from(data.buffer, data.byteOffset, data.length)) ?? true,
      onOpen: (open) => {
        if (!open) this.#running?.outputClosed(which);
      },
    };
  }

  /** The ports that the device made of {@link portOptions}. */
  connect([control, stdin, stdout, stderr]: readonly ConsolePort[]): void {
    this.#ports = { control: control!, stdin: stdin!, stdout: stdout!, stderr: stderr! };
  }

  /** The agent is there and waits for a command. */
  get isFree(): boolean {
    return this.#isReady && this.#running === undefined;
  }

  /** Starts a command; only when the agent {@link isFree}. `script` is what the guest's shell shall run. */
  start(script: Buffer): GuestProcess {
    const ports = this.#ports!;
    this.#running = new RunningProcess({
      input: ports.stdin,
      resume: (which) => ports[which].resume(),
      signal: (name) => this.#send(`signal ${name}\n`),
      over: () => {
        this.#running = undefined;
        this.#onFree();
      },
    });
    this.#send(`run ${script.toString("base64")}\n`);
    return this.#running;
  }

  /** The size of the terminal in which the guest's console is shown. */
  setWindow(device: string, rows: number, columns: number): void {
    this.#send(`window ${device} rows ${rows} cols ${columns}\n`);
  }

  /** The guest is gone, and with it the command. Another guest's agent may come. */
  restart(why: VmmError): void {
    this.#isReady = false;
    this.#line = "";
    this.#unsent = Buffer.alloc(0);
    this.#running?.fail(why);
    this.#running = undefined;
    this.#ports?.stdin.discard();
    this.#ports?.stdin.connect(true);
  }

  #send(text: string): void {
    const all = Buffer.concat([this.#unsent, Buffer.from(text)]);
    this.#unsent = all.subarray(this.#ports!.control.send(all));
  }

  #inputClosed(): void {
    const { stdin } = this.#ports!;
    // What the command did not read is not the next one's.
    stdin.discard();
    stdin.connect(true);
    this.#running?.inputClosed();
  }

  #read(data: Uint8Array): boolean {
    for (const byte of data) {
      if (byte !== 0x0a) {
        this.#line += String.fromCharCode(byte);
        if (this.#line.length > LONGEST_LINE) this.#line = "";
        continue;
      }
      const [verb, value] = this.#line.trim().split(" ");
      this.#line = "";
      if (verb === "ready") {
        this.#isReady = true;
        if (this.#running === undefined) this.#onFree();
        else this.#running.agentReady();
      } else if (verb === "started") {
        this.#running?.started();
      } else if (verb === "exit" && /^\d{1,3}$/.test(value ?? "")) {
        this.#running?.statusKnown(Number(value));
      }
    }
    return true;
  }
}

interface ProcessLink {
  readonly input: ConsolePort;
  resume(which: "stdout" | "stderr"): void;
  signal(name: string): void;
  /** The next command may come. */
  over(): void;
}

class RunningProcess implements GuestProcess {
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  readonly exited: Promise<number>;
  readonly #exited = Promise.withResolvers<number>();
  readonly #link: ProcessLink;
  readonly #open = new Set<"stdout" | "stderr">(["stdout", "stderr"]);
  /** Signals that nobody would find yet; undefined once there is somebody. */
  #early: Set<NodeJS.Signals> | undefined = new Set();
  #agentReady = false;
  #status: number | undefined;
  #unsent: Uint8Array = new Uint8Array(0);
  #written: ((error?: Error) => void) | undefined;
  #inputOver = false;

  constructor(link: ProcessLink) {
    this.#link = link;
    this.exited = this.#exited.promise;
    // Nobody may be waiting when the machine ends.
    this.exited.catch(() => {});
    this.stdin = new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        // As for a pipe whose reader is gone; but nobody is told by a signal.
        if (this.#inputOver) return done();
        this.#unsent = chunk;
        this.#written = done;
        this.inputDrained();
      },
      final: (done) => {
        if (!this.#inputOver) link.input.end();
        done();
      },
    });
    this.stdout = new Readable({ read: () => link.resume("stdout") });
    this.stderr = new Readable({ read: () => link.resume("stderr") });
  }

  kill(signal: NodeJS.Signals): void {
    if (this.#status !== undefined) return;
    if (this.#early === undefined) this.#link.signal(nameOf(signal));
    else this.#early.add(signal);
  }

  started(): void {
    for (const signal of this.#early ?? []) this.#link.signal(nameOf(signal));
    this.#early = undefined;
  }

  inputDrained(): void {
    this.#unsent = this.#unsent.subarray(this.#link.input.send(this.#unsent));
    if (this.#unsent.length > 0) return;
    const done = this.#written;
    this.#written = undefined;
    done?.();
  }

  inputClosed(): void {
    this.#inputOver = true;
    const done = this.#written;
    this.#written = undefined;
    done?.();
  }

  outputClosed(which: "stdout" | "stderr"): void {
    if (!this.#open.delete(which)) return;
    this[which].push(null);
    this.#settle();
  }

  statusKnown(status: number): void {
    this.#status = status;
    if (this.#inputOver) return;
    // The guest's side is open still, or will be: what reads there finds the end.
    this.#link.input.discard();
    this.#link.input.end();
    this.inputClosed();
  }

  agentReady(): void {
    this.#agentReady = true;
    this.#settle();
  }

  fail(error: Error): void {
    this.inputClosed();
    this.#exited.reject(error);
    for (const which of this.#open) this[which].destroy(error);
  }

  #settle(): void {
    if (this.#status === undefined || !this.#agentReady || this.#open.size > 0) return;
    this.#link.over();
    this.#exited.resolve(this.#status);
  }
}

/** As shells name it. */
function nameOf(signal: NodeJS.Signals): string {
  return signal.replace(/^SIG/, "");
}
