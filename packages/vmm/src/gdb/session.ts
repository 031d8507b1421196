/** One debugger's conversation with a machine: GDB's remote protocol, appendix E of "Debugging with GDB". */

import { LARGEST_PACKET, PacketReader, packet } from "./packets.ts";
import {
  decodeRegisters,
  encodeRegisters,
  type GuestRegisters,
  REGISTER_BYTES,
  registerPlace,
  targetDescription,
} from "./registers.ts";
import type { Breakpoint, DebugStop, DebugTarget } from "./target.ts";

/** By the numbers of the Z packets. */
const KINDS: readonly Breakpoint["kind"][] = ["software", "execute", "write", "access", "access"];

const MOST_BREAKPOINTS = 1000;
const SIGINT = 2;
const SIGTRAP = 5;

export class DebugSession {
  readonly #target: DebugTarget;
  readonly #write: (bytes: Buffer) => void;
  readonly #reader = new PacketReader();
  #acknowledge = true;
  #last: Buffer | undefined;
  /** Threads by GDB are vCPUs from 1 on, as 0 stands for any. */
  #thread = 1;
  #continueThread = 0;
  #running = false;
  #breakpoints: Breakpoint[] = [];
  #stop: DebugStop;
  /** Commands are answered one after the other. */
  #work: Promise<void> = Promise.resolve();

  /** `write` sends bytes to the debugger. The target is paused already. */
  constructor(target: DebugTarget, write: (bytes: Buffer) => void) {
    this.#target = target;
    this.#write = write;
    this.#stop = { vcpu: target.vcpus[0] ?? 0, reason: "interrupt" };
    target.onStop = (stop) => {
      if (!this.#running) return;
      this.#running = false;
      this.#stop = stop;
      this.#thread = stop.vcpu + 1;
      this.#send(this.#stopReply());
    };
  }

  /** Takes what the debugger sent. */
  feed(bytes: Uint8Array): void {
    for (const received of this.#reader.feed(bytes)) {
      switch (received.type) {
        case "packet":
          if (this.#acknowledge) this.#write(Buffer.from("+"));
          this.#later(() => this.#answer(received.data));
          break;
        case "damaged":
          if (this.#acknowledge) this.#write(Buffer.from("-"));
          break;
        case "again":
          if (this.#last !== undefined) this.#write(this.#last);
          break;
        case "interrupt":
          if (this.#running) this.#target.interrupt();
          break;
        case "acknowledged":
          break;
      }
    }
  }

  /** The debugger is gone: its breakpoints go, too, and the machine goes on. */
  async close(): Promise<void> {
    await this.#work;
    this.#target.onStop = () => {};
    if (this.#running) await this.#target.pause();
    await this.#target.setBreakpoints([]);
    if (this.#stop.reason !== "ended") await this.#target.resume();
  }

  #later(work: () => Promise<void>): void {
    // What fails is the machine's end; a debugger is told so by an error, and by the connection's end.
    this.#work = this.#work.then(work).catch(() => this.#send("E01"));
  }

  #send(data: string | Uint8Array): void {
    this.#last = packet(data);
    this.#write(this.#last);
  }

  async #answer(data: Buffer): Promise<void> {
    const text = data.toString("latin1");
    const reply = await this.#command(text[0] ?? "", text.slice(1), data);
    if (reply !== undefined) this.#send(reply);
    // Its own answer is still acknowledged.
    if (text === "QStartNoAckMode") this.#acknowledge = false;
  }

  /** The answer to a command; undefined when it is given later, or never. An empty one means: unknown. */
  async #command(verb: string, rest: string, data: Buffer): Promise<string | undefined> {
    switch (verb) {
      case "?":
        return this.#stopReply();
      case "g":
        return encodeRegisters(await this.#registers()).toString("hex");
      case "G":
        return await this.#setRegisters(Buffer.from(rest, "hex"));
      case "p":
        return await this.#readRegister(Number.parseInt(rest, 16));
      case "P":
        return await this.#writeRegister(rest);
      case "m":
        return await this.#readMemory(rest);
      case "M":
        return await this.#writeMemory(rest, (at) => Buffer.from(rest.slice(at), "hex"));
      case "X":
        return await this.#writeMemory(rest, (at) => data.subarray(at + 1));
      case "Z":
      case "z":
        return await this.#changeBreakpoint(verb === "Z", rest);
      case "H":
        return this.#selectThread(rest);
      case "T":
        return this.#isThread(rest) ? "OK" : "E01";
      case "c":
        return await this.#resume();
      case "s":
        return await this.#resume(this.#continueThread > 0 ? this.#continueThread : this.#thread);
      case "v":
        return await this.#resumeCommand(rest);
      case "D":
        await this.#target.setBreakpoints([]);
        this.#breakpoints = [];
        return "OK";
      case "q":
      case "Q":
        return this.#query(verb + rest);
      default:
        return "";
    }
  }

  #query(text: string): string {
    const [name, value = ""] = text.split(/:(.*)/s);
    switch (name) {
      case "qSupported":
        return `PacketSize=${LARGEST_PACKET.toString(16)};QStartNoAckMode+;qXfer:features:read+;swbreak+;hwbreak+;vContSupported+`;
      case "QStartNoAckMode":
        return "OK";
      case "qXfer":
        return described(value);
      case "qAttached":
        return "1";
      case "qC":
        return `QC${this.#thread.toString(16)}`;
      case "qfThreadInfo":
        return `m${this.#target.vcpus.map((vcpu) => (vcpu + 1).toString(16)).join(",")}`;
      case "qsThreadInfo":
        return "l";
      default:
        if (text.startsWith("qThreadExtraInfo,")) {
          return Buffer.from(`vCPU ${Number.parseInt(text.slice(17), 16) - 1}`).toString("hex");
        }
        return "";
    }
  }

  #stopReply(): string {
    const { vcpu, reason, breakpoint } = this.#stop;
    if (reason === "ended") return "W00";
    const signal = reason === "interrupt" ? SIGINT : SIGTRAP;
    const thread = `thread:${(vcpu + 1).toString(16)};`;
    const head = `T${signal.toString(16).padStart(2, "0")}`;
    if (breakpoint === undefined) return head + thread;
    switch (breakpoint.kind) {
      case "software":
        return `${head}swbreak:;${thread}`;
      case "execute":
        return `${head}hwbreak:;${thread}`;
      case "write":
        return `${head}watch:${breakpoint.address.toString(16)};${thread}`;
      case "access":
        return `${head}awatch:${breakpoint.address.toString(16)};${thread}`;
    }
  }

  #isThread(text: string): boolean {
    return this.#target.vcpus.includes(Number.parseInt(text, 16) - 1);
  }

  /** `Hg` is for registers and memory, `Hc` for what goes on; 0 and -1 are any and all. */
  #selectThread(rest: string): string {
    const id = Number.parseInt(rest.slice(1), 16);
    if (rest[0] === "c") this.#continueThread = this.#isThread(rest.slice(1)) ? id : 0;
    else if (id > 0) {
      if (!this.#isThread(rest.slice(1))) return "E01";
      this.#thread = id;
    }
    return "OK";
  }

  #registers(): Promise<GuestRegisters> {
    return this.#target.registers(this.#thread - 1);
  }

  async #setRegisters(all: Buffer): Promise<string> {
    if (all.length !== REGISTER_BYTES) return "E01";
    await this.#target.setRegisters(this.#thread - 1, decodeRegisters(all, await this.#registers()));
    return "OK";
  }

  async #readRegister(number: number): Promise<string> {
    const place = registerPlace(number);
    if (place === undefined) return "E01";
    const all = encodeRegisters(await this.#registers());
    return all.subarray(place.at, place.at + place.bytes).toString("hex");
  }

  async #writeRegister(rest: string): Promise<string> {
    const [number = "", value = ""] = rest.split("=");
    const place = registerPlace(Number.parseInt(number, 16));
    const bytes = Buffer.from(value, "hex");
    if (place === undefined || bytes.length !== place.bytes) return "E01";
    const all = encodeRegisters(await this.#registers());
    bytes.copy(all, place.at);
    return await this.#setRegisters(all);
  }

  async #readMemory(rest: string): Promise<string> {
    const range = parseRange(rest);
    if (range === undefined) return "E01";
    // Two digits a byte, in a packet of bounded size.
    const length = Math.min(range.length, LARGEST_PACKET / 2);
    const bytes = await this.#target.readMemory(this.#thread - 1, range.address, length);
    return bytes.length === 0 && length > 0 ? "E0e" : bytes.toString("hex");
  }

  async #writeMemory(rest: string, bytesAt: (at: number) => Buffer): Promise<string> {
    const colon = rest.indexOf(":");
    const range = parseRange(rest.slice(0, colon));
    const bytes = bytesAt(colon + 1);
    if (colon < 0 || range === undefined || bytes.length !== range.length) return "E01";
    if (bytes.length === 0) return "OK";
    return (await this.#target.writeMemory(this.#thread - 1, range.address, bytes)) ? "OK" : "E0e";
  }

  async #changeBreakpoint(add: boolean, rest: string): Promise<string> {
    const [type = "", ...where] = rest.split(",");
    const kind = KINDS[Number(type)];
    const range = parseRange(where.join(",").split(";")[0] ?? "");
    if (kind === undefined) return "";
    if (range === undefined) return "E01";
    const length = kind === "software" || kind === "execute" ? 1 : range.length;
    const others = this.#breakpoints.filter(
      (one) => one.kind !== kind || one.address !== range.address || one.length !== length,
    );
    if (add && others.length >= MOST_BREAKPOINTS) return "E1c";
    const wanted = add ? [...others, { kind, address: range.address, length }] : others;
    if (!(await this.#target.setBreakpoints(wanted))) return "E1c";
    this.#breakpoints = wanted;
    return "OK";
  }

  async #resume(step?: number): Promise<undefined> {
    this.#running = true;
    await this.#target.resume(step === undefined ? undefined : step - 1);
  }

  /** `vCont;ACTION[:THREAD]…`: the first action that names a step decides, as one steps one thread at a time. */
  async #resumeCommand(rest: string): Promise<string | undefined> {
    if (rest === "Cont?") return "vCont;c;C;s;S";
    if (!rest.startsWith("Cont;")) return "";
    for (const action of rest.slice(5).split(";")) {
      const [what = "", thread] = action.split(":");
      if (what[0]?.toLowerCase() === "s") {
        return await this.#resume(
          thread !== undefined && this.#isThread(thread) ? Number.parseInt(thread, 16) : this.#thread,
        );
      }
    }
    return await this.#resume();
  }
}

/** `ADDRESS,LENGTH` in hexadecimal. */
function parseRange(text: string): { address: bigint; length: number } | undefined {
  const found = /^([0-9a-f]{1,16}),([0-9a-f]{1,8})$/i.exec(text);
  if (found === null) return undefined;
  return { address: BigInt(`0x${found[1]}`), length: Number.parseInt(found[2]!, 16) };
}

/** `features:read:target.xml:OFFSET,LENGTH`: a part of the description, `l` before the last one. */
function described(request: string): string {
  const found = /^features:read:target\.xml:([0-9a-f]{1,8}),([0-9a-f]{1,8})$/i.exec(request);
  if (found === null) return "E00";
  const [from, length] = [Number.parseInt(found[1]!, 16), Number.parseInt(found[2]!, 16)];
  const all = targetDescription();
  const part = all.slice(from, from + length);
  return (from + length >= all.length ? "l" : "m") + part;
}
