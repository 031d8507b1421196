/**
 * What a thread of the suite does: it owns one vCPU at a time and runs it when told, or it is the watchdog. A thread
 * answers each request with one reply, in order. While the vCPU runs the thread hears nothing but kicks.
 */

import {
  ExitReason,
  type Hypervisor,
  type KickHandle,
  KvmError,
  type Vcpu,
  type Vm,
  type VmHandle,
} from "../src/index.ts";
import { setUp, type VcpuSetup } from "./entry.ts";
import { type Exit, readExit } from "./exit.ts";
import type { Port } from "./port.ts";

/** Words of the memory that a thread shares with its case. */
export const Word = {
  /** Not 0: the run ends at the next kick. */
  STOP: 0,
  /** A number that the case writes before it kicks. */
  REQUESTED: 1,
  /** The last such number that the thread saw after a kick. */
  ACKNOWLEDGED: 2,
  /** How many exits were passed over. */
  PASSED: 3,
} as const;
export const WORD_BYTES = 16;

export interface RunOptions {
  /** Exits for writes to these ports are counted and passed over. */
  passOver?: readonly number[];
  /** Every MMIO exit is counted and passed over; reads are answered with zeros. */
  passOverMmio?: boolean;
  /** The run ends at the first kick. Otherwise kicks are acknowledged and passed over until {@link Word.STOP}. */
  untilKick?: boolean;
}

/** A method of `Vcpu` that takes nothing and returns a record. */
export type Getter = "getRegs" | "getSregs" | "getMpState" | "getEvents" | "getLapic";

export type Request =
  | { do: "open"; vm: VmHandle; setup: VcpuSetup; words: SharedArrayBuffer }
  | { do: "run"; options: RunOptions }
  | { do: "get"; what: Getter }
  | { do: "close" }
  | { do: "arm"; limitMs: number; expired: SharedArrayBuffer }
  | { do: "watch"; kick: KickHandle }
  | { do: "disarm" };

export type Reply = { value: unknown } | { error: string; code: string };

/** Serves requests on an implementation of the interface. */
export function serve(hypervisor: Hypervisor, port: Port): void {
  const vcpus = new VcpuServer(hypervisor);
  const watchdog = new WatchdogServer(hypervisor);
  port.listen((message) => {
    const request = message as Request;
    switch (request.do) {
      case "arm":
        return watchdog.arm(request.limitMs, request.expired);
      case "watch":
        return watchdog.watch(request.kick);
      case "disarm":
        return watchdog.disarm();
      default:
        port.post(answer(() => vcpus.handle(request)));
    }
  });
}

function answer(handle: () => unknown): Reply {
  try {
    return { value: handle() };
  } catch (error) {
    return { error: String(error), code: error instanceof KvmError ? error.code : "" };
  }
}

class VcpuServer {
  readonly #hypervisor: Hypervisor;
  #vm: Vm | undefined;
  #vcpu: Vcpu | undefined;
  #words = new Int32Array(new SharedArrayBuffer(WORD_BYTES));

  constructor(hypervisor: Hypervisor) {
    this.#hypervisor = hypervisor;
  }

  handle(request: Extract<Request, { do: "open" | "run" | "get" | "close" }>): unknown {
    switch (request.do) {
      case "open": {
        this.#words = new Int32Array(request.words);
        this.#vm = this.#hypervisor.attachVm(request.vm);
        this.#vcpu = this.#vm.createVcpu(request.setup.id);
        setUp(this.#vcpu, request.setup);
        return this.#vcpu.kickHandle;
      }
      case "run":
        return this.#run(this.#open(), request.options);
      case "get":
        return this.#open()[request.what]();
      case "close":
        this.#vcpu?.close();
        this.#vcpu = undefined;
        this.#vm?.close();
        this.#vm = undefined;
        return undefined;
    }
  }

  #open(): Vcpu {
    if (this.#vcpu === undefined) throw new Error("this thread has no vCPU");
    return this.#vcpu;
  }

  #run(vcpu: Vcpu, { passOver = [], passOverMmio = false, untilKick = false }: RunOptions): Exit {
    const words = this.#words;
    for (;;) {
      const reason = vcpu.run();
      if (reason === ExitReason.INTR) {
        // The kick's order: whoever kicks writes first. So what is read now is at least as new as the kick.
        Atomics.store(words, Word.ACKNOWLEDGED, Atomics.load(words, Word.REQUESTED));
        Atomics.notify(words, Word.ACKNOWLEDGED);
        if (untilKick || Atomics.load(words, Word.STOP) !== 0) return { reason };
      } else if (reason === ExitReason.IO && vcpu.page.io.isOut && passOver.includes(vcpu.page.io.port)) {
        Atomics.add(words, Word.PASSED, 1);
      } else if (reason === ExitReason.MMIO && passOverMmio) {
        if (!vcpu.page.mmio.isWrite) vcpu.page.mmio.answer(0);
        Atomics.add(words, Word.PASSED, 1);
      } else {
        return readExit(reason, vcpu.page);
      }
    }
  }
}

/** Stops the vCPUs of a case that takes too long: whoever runs them finds the flag up. */
class WatchdogServer {
  readonly #hypervisor: Hypervisor;
  #watched: KickHandle[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(hypervisor: Hypervisor) {
    this.#hypervisor = hypervisor;
  }

  arm(limitMs: number, expired: SharedArrayBuffer): void {
    this.disarm();
    this.#timer = setTimeout(() => {
      Atomics.store(new Int32Array(expired), 0, 1);
      for (const handle of this.#watched) this.#hypervisor.attachKicker(handle).kick();
    }, limitMs);
  }
  watch(kick: KickHandle): void {
    this.#watched.push(kick);
  }
  disarm(): void {
    clearTimeout(this.#timer);
    this.#watched = [];
  }
}
