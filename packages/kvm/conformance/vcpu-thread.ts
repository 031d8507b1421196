/** A vCPU that another thread owns, as its case sees it. */

import type { Kicker, KickHandle } from "../src/index.ts";
import { CheckFailed, equal, hex } from "./check.ts";
import type { Context } from "./context.ts";
import type { VcpuSetup } from "./entry.ts";
import { type Exit, showExit } from "./exit.ts";
import type { Machine } from "./machine.ts";
import type { Thread } from "./session.ts";
import { type Getter, type RunOptions, WORD_BYTES, Word } from "./thread.ts";

export interface VcpuOptions extends Omit<VcpuSetup, "cpuid" | "mode"> {
  /** A further guest of the case, by name; its mode is the vCPU's. Default: the machine's guest. */
  guest?: string;
  /** Left as KVM creates it. */
  untouched?: boolean;
}

/** Waiting goes in slices, so that a case that has used up its time ends. */
const SLICE_MS = 500;
const STOP_MS = 60_000;

export class VcpuThread implements AsyncDisposable {
  readonly kickHandle: KickHandle;
  readonly kicker: Kicker;
  readonly #context: Context;
  readonly #thread: Thread;
  readonly #words: Int32Array;

  static async open(context: Context, machine: Machine, thread: Thread, options: VcpuOptions): Promise<VcpuThread> {
    const words = new SharedArrayBuffer(WORD_BYTES);
    const { guest, untouched = false, ...rest } = options;
    const mode = untouched ? undefined : (context.modeOf(guest) ?? machine.mode);
    const setup: VcpuSetup = { ...rest, mode, cpuid: machine.cpuid };
    try {
      const kick = await thread.ask({ do: "open", vm: machine.vm.handle, setup, words });
      return new VcpuThread(context, thread, kick as KickHandle, new Int32Array(words));
    } catch (error) {
      await thread.ask({ do: "close" });
      context.giveBack(thread);
      throw error;
    }
  }

  private constructor(context: Context, thread: Thread, kick: KickHandle, words: Int32Array) {
    this.#context = context;
    this.#thread = thread;
    this.#words = words;
    this.kickHandle = kick;
    this.kicker = context.hypervisor.attachKicker(kick);
  }

  /** Runs the vCPU there and returns its first exit that the options do not pass over. */
  run(options: RunOptions = {}): Promise<Exit> {
    return leavable(this.#thread.ask({ do: "run", options }) as Promise<Exit>);
  }

  /** {@link run}, and the exit is a write of this value to this port. */
  expectOut(port: number, value: number, options: RunOptions = {}): Promise<void> {
    const check = (exit: Exit) => {
      if (!("port" in exit)) throw new CheckFailed(`expected an out to port ${hex(port)}, got ${showExit(exit)}`);
      equal({ port: exit.port, values: exit.values }, { port, values: [value] }, "the thread's exit");
    };
    return leavable(this.run(options).then(check));
  }

  get(what: Getter): Promise<unknown> {
    return this.#thread.ask({ do: "get", what });
  }

  /** Writes a number where the thread looks, kicks, and blocks until the thread has seen it. */
  kickAndWait(number: number): void {
    Atomics.store(this.#words, Word.REQUESTED, number);
    if (!this.kicker.kick()) throw new CheckFailed(`kick ${number}: the vCPU is closed`);
    for (let seen = this.acknowledged; seen !== number; seen = this.acknowledged) {
      if (this.#context.expired)
        throw new CheckFailed(`kick ${number} was not seen in the case's time: it was lost, or the host is slow`);
      Atomics.wait(this.#words, Word.ACKNOWLEDGED, seen, SLICE_MS);
    }
  }
  get acknowledged(): number {
    return Atomics.load(this.#words, Word.ACKNOWLEDGED);
  }
  /** How many exits the thread has passed over. */
  get passed(): number {
    return Atomics.load(this.#words, Word.PASSED);
  }

  /** Ends a run from outside. */
  stop(): void {
    Atomics.store(this.#words, Word.STOP, 1);
    this.kicker.kick();
  }

  /** A thread that does not let go of its vCPU is left alone, and its case fails. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.stop();
    const { promise: late, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(() => reject(new CheckFailed("a vCPU's thread did not stop when it was kicked")), STOP_MS);
    try {
      await Promise.race([this.#thread.ask({ do: "close" }), late]);
      this.#context.giveBack(this.#thread);
    } finally {
      clearTimeout(timer);
    }
  }
}

/** A case that fails elsewhere does not get to await what it has started; that is no failure of its own. */
function leavable<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}
