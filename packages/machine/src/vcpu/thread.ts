/** A vCPU as its machine sees it: an explicit small state machine, fed by the messages of the vCPU's thread. */

import type { GuestDebug, Hypervisor, HypervisorKind, Kicker, Translation } from "@lodge/kvm";
import { MachineError } from "../errors.ts";
import type { Plug } from "../pci/root.ts";
import type { CompilerLink } from "./compiler-link.ts";
import type { Message, Registers, Request, VcpuSetup } from "./protocol.ts";
import { type StartedThread, threadFor } from "./started-thread.ts";
import type { Stop } from "./step.ts";

export interface VcpuListener {
  readonly stopped: (stop: Stop) => void;
  readonly panicked: (crashLoaded: boolean) => void;
  /** It knows nothing of a slot's function any more. */
  readonly released: (slot: number) => void;
}

type State = "starting" | "stopped" | "running" | "closing" | "closed";

export class VcpuThread {
  readonly id: number;
  readonly #thread: StartedThread;
  #listener: VcpuListener | undefined;
  #state: State = "starting";
  #kicker: Kicker | undefined;
  #threadId = 0;
  /** Who waits for the next message of a type. */
  #waiting: { type: Message["type"]; resolve: (message: Message) => void; reject: (error: Error) => void }[] = [];
  /** Why the thread came to nothing before anybody waited for it. */
  #failure: Error | undefined;
  readonly #ended = Promise.withResolvers<void>();

  /** Starts the thread, which loads its code while the machine is being made; {@link open} gives it its vCPU. */
  constructor(id: number, accelerator: HypervisorKind, codeCache?: string, compiler?: CompilerLink) {
    this.id = id;
    this.#thread = threadFor(id);
    this.#thread.use({ accelerator, codeCache, compiler });
    const { worker } = this.#thread;
    worker.on("message", (message: Message) => this.#receive(message));
    worker.on("error", (error) => this.#fail(error as Error));
    worker.on("exit", () => {
      this.#state = "closed";
      this.#thread.close();
      this.#fail(new MachineError("MACHINE_STATE", `the thread of vCPU ${this.id} has ended`));
      this.#ended.resolve();
    });
  }

  /** Resolves when its vCPU exists, and waits to be run. */
  async open(hypervisor: Hypervisor, setup: VcpuSetup, listener: VcpuListener): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    this.#expect("starting");
    this.#listener = listener;
    this.#post({ do: "open", setup });
    try {
      const { kick, threadId } = await this.#next("ready");
      this.#threadId = threadId;
      this.#kicker = hypervisor.attachKicker(kick);
      this.#state = "stopped";
    } catch (error) {
      await this.#thread.worker.terminate();
      throw error;
    }
  }

  /** The host's number of its thread. */
  get threadId(): number {
    return this.#threadId;
  }

  get isRunning(): boolean {
    return this.#state === "running";
  }

  /** The machine's control word says `RUNNING` already. */
  run(): void {
    this.#expect("stopped");
    this.#state = "running";
    this.#post({ do: "run" });
  }

  /** Makes it look at the machine's control word. */
  kick(): void {
    if (this.#state === "running") this.#kicker?.kick();
  }

  /** Tells it what has become of a slot; it hears of that at its next look at PCI, or when it is kicked or run. */
  plug(message: Plug): void {
    this.#thread.plug(message);
  }

  /** The registers of a vCPU that does not run. */
  async registers(): Promise<Registers> {
    this.#expect("stopped");
    this.#post({ do: "registers" });
    return (await this.#next("registers")).registers;
  }

  async setRegisters(registers: Registers): Promise<void> {
    this.#expect("stopped");
    this.#post({ do: "set-registers", registers });
    await this.#next("done");
  }

  /** What its page tables make of an address. */
  async translate(linearAddress: bigint): Promise<Translation> {
    this.#expect("stopped");
    this.#post({ do: "translate", linearAddress });
    return (await this.#next("translation")).translation;
  }

  /** Which breakpoints and steps stop it. */
  async watch(debug: GuestDebug): Promise<void> {
    this.#expect("stopped");
    this.#post({ do: "watch", debug });
    await this.#next("done");
  }

  /** Closes the vCPU, which does not run, and ends its thread. */
  async close(): Promise<void> {
    if (this.#state === "starting") await this.#thread.worker.terminate();
    else if (this.#state !== "closed" && this.#state !== "closing") {
      this.#expect("stopped");
      this.#state = "closing";
      this.#post({ do: "close" });
    }
    await this.#ended.promise;
  }

  #expect(state: State): void {
    if (this.#state === state) return;
    throw new MachineError("MACHINE_STATE", `vCPU ${this.id} is ${this.#state}, not ${state}`);
  }

  #post(request: Request): void {
    this.#thread.worker.postMessage(request);
  }

  #next<T extends Message["type"]>(type: T): Promise<Extract<Message, { type: T }>> {
    const { promise, resolve, reject } = Promise.withResolvers<Message>();
    this.#waiting.push({ type, resolve, reject });
    return promise as Promise<Extract<Message, { type: T }>>;
  }

  #receive(message: Message): void {
    switch (message.type) {
      case "stopped":
        this.#state = "stopped";
        this.#listener?.stopped(message.stop);
        return;
      case "panicked":
        this.#listener?.panicked(message.crashLoaded);
        return;
      case "collected":
        void import("@lodge/linux").then(({ trimHeap }) => trimHeap());
        return;
      case "released":
        this.#listener?.released(message.slot);
        return;
      case "failed":
        this.#fail(new MachineError("MACHINE_STATE", `vCPU ${this.id}: ${message.message}`));
        return;
      default: {
        const index = this.#waiting.findIndex(({ type }) => type === message.type);
        this.#waiting.splice(index, 1)[0]?.resolve(message);
      }
    }
  }

  #fail(error: Error): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    if (this.#state === "starting" && waiting.length === 0) this.#failure = error;
    for (const { reject } of waiting) reject(error);
    if (this.#state !== "running") return;
    this.#state = "stopped";
    this.#listener?.stopped({ reason: "crash", message: error.message });
  }
}
