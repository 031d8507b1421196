/**
 * A virtual machine for those who want to use one:
 *
 *     await using vm = await Machine.start({ image: "tiny", memory: "512M" });
 *     const { stdout, status } = await vm.exec(["uname", "-a"]);
 */

import { text } from "node:stream/consumers";
import { Pc } from "@lodge/machine";
import { type Choice, chooseAccelerator } from "./accelerator.ts";
import type { GuestProcess } from "./agent/channel.ts";
import { type CommandOptions, jobScript } from "./agent/job.ts";
import type { NetworkOptions } from "./configuration/networks.ts";
import { checkOptions, type MachineOptions } from "./configuration/options.ts";
import type { AttachedDisk } from "./disks/attached-disk.ts";
import type { DiskOptions } from "./disks/options.ts";
import { DiskTrouble } from "./disks/trouble.ts";
import { VmmError } from "./errors.ts";
import type { MachineTarget } from "./gdb/machine-target.ts";
import { assemble, type Hardware } from "./hardware.ts";
import { Hotplug } from "./hotplug.ts";
import { prepareImage } from "./images/store.ts";
import { Life, type LifeEvent, type MachineEnd } from "./life.ts";
import { MadeFiles } from "./made-files.ts";
import type { AttachedNetwork } from "./network.ts";
import type { QmpServer } from "./qmp/server.ts";

export interface SpawnOptions extends CommandOptions {
  /** Gives up waiting for an agent that is free. */
  readonly signal?: AbortSignal;
}

export interface ExecOptions extends CommandOptions {
  /** What the command reads. Default: nothing, so that it finds its input ended. */
  readonly input?: string | Uint8Array;
  /** Gives up waiting for the command's turn, or kills it, when it is aborted. */
  readonly signal?: AbortSignal;
}

export interface ExecResult {
  readonly stdout: string;
  readonly stderr: string;
  /** The command's exit status; 128 and the number of a signal that ended it; 127 when there is no such program. */
  readonly status: number;
}

/** A vCPU: where it is, and the thread of the host that runs it, as in /proc/PID/task. */
export interface VcpuPlace {
  readonly threadId: number;
  readonly socket: number;
  readonly core: number;
  readonly thread: number;
}

export class Machine implements AsyncDisposable {
  readonly name: string | undefined;
  /** What it runs on, and why. */
  readonly accelerator: Choice;
  /** Resolves when the machine has come to its end. A guest's reset is none, unless it was said to be one. */
  readonly ended: Promise<MachineEnd>;
  readonly #life: Life;
  readonly #hardware: Hardware;
  readonly #trouble: DiskTrouble;
  readonly #hotplug: Hotplug;
  readonly #resources = new AsyncDisposableStack();

  /**
   * Makes a machine and lets it run; its kernel has not said a word yet when this resolves. A `VmmError`, `MachineError` or
   * `KvmError` says what cannot be; nothing is left behind then.
   */
  static async start(options: MachineOptions = {}): Promise<Machine> {
    const { progress = () => {}, signal } = options;
    const checked = checkOptions(options);
    const accelerator = chooseAccelerator(checked.accel);
    const image =
      checked.image === undefined
        ? undefined
        : await prepareImage(checked.image, { progress, ...(signal && { signal }) });
    signal?.throwIfAborted();
    await using undo = new AsyncDisposableStack();
    const files = undo.use(new MadeFiles(options));
    // Closed when the machine has ended, so that its clients hear of that.
    let qmp: QmpServer | undefined;
    undo.defer(() => qmp?.[Symbol.asyncDispose]());
    const hardware = await assemble(options, checked, image, accelerator, undo);
    let life: Life | undefined;
    let target: MachineTarget | undefined;
    let hotplug: Hotplug | undefined;
    const make = async () => {
      const pc = await Pc.create(hardware.describe(), {
        debugged: (exit) => target?.debugged(exit),
        panicked: (crashLoaded) => life?.panicked(crashLoaded),
        unplugged: (device) => hotplug?.unplugged(device),
        deviceFailed: (reason) =>
          hardware.onTrouble(`the guest's driver broke the rules of a device, which waits for its reset: ${reason}`),
      });
      await target?.follow(pc);
      return pc;
    };
    const first = await make();
    undo.defer(() => life?.stop() ?? first.stop());
    if (options.gdbPort !== undefined) {
      const [{ MachineTarget }, { serveGdb }] = await Promise.all([
        import("./gdb/machine-target.ts"),
        import("./gdb/server.ts"),
      ]);
      target = new MachineTarget(first);
      undo.use(await serveGdb(target, options.gdbPort));
    }
    life = new Life(first, {
      make,
      resetEnds: options.onReset === "end",
      panicEnds: options.onPanic !== "continue",
      resetting: () => {
        hardware.agents.restart(new VmmError("VMM_ENDED", "the guest was reset"));
        hotplug?.resetting();
      },
    });
    void life.ended.then(() => target?.ended());
    const begun = life;
    const trouble = undo.use(new DiskTrouble(life));
    const follow = (disk: AttachedDisk) => {
      trouble.follow(disk);
      disk.onJob = (job) => begun.tell({ event: "block-job", job });
    };
    for (const disk of hardware.disks) follow(disk);
    hotplug = undo.use(new Hotplug({ hardware, life, follow }));
    hardware.onBalloon = (bytes) => begun.tell({ event: "balloon", bytes });
    hardware.onTrouble = (message) => begun.tell({ event: "trouble", message });
    if (hardware.serial) hardware.serial.onTyped = (bytes) => begun.pc.serial[0]!.write(bytes);
    for (const [index, card] of hardware.serialCards.entries()) {
      card.onTyped = (bytes) => begun.pc.serialCards[index]!.write(bytes);
    }
    const machine = new Machine(options.name, life, accelerator, hardware, trouble, hotplug);
    if (options.qmp !== undefined) {
      const { serveQmp } = await import("./qmp/server.ts");
      const server = await serveQmp(machine, options.qmp);
      qmp = server;
      life.watch((event) => server.tell(event));
    }
    files.keep();
    hardware.begun();
    machine.#resources.use(undo.move());
    return machine;
  }

  private constructor(
    name: string | undefined,
    life: Life,
    accelerator: Choice,
    hardware: Hardware,
    trouble: DiskTrouble,
    hotplug: Hotplug,
  ) {
    this.name = name;
    this.#life = life;
    this.#hardware = hardware;
    this.#trouble = trouble;
    this.#hotplug = hotplug;
    this.accelerator = accelerator;
    this.ended = life.ended.then((end) => {
      const why = new VmmError("VMM_ENDED", `the machine has ended: ${describeEnd(end)}`);
      hardware.agents.end(why);
      hotplug.end(why);
      return end;
    });
  }

  get state(): "running" | "paused" | "ended" {
    return this.#life.state;
  }

  get memoryBytes(): number {
    return this.#hardware.memoryBytes;
  }

  /** The vCPUs, with their places in the topology and the host's numbers of their threads. */
  get vcpus(): readonly VcpuPlace[] {
    const { threadIds, description } = this.#life.pc;
    const { cores, threads } = description.cpus.topology ?? { cores: 1, threads: 1 };
    return threadIds.map((threadId, index) => ({
      threadId,
      socket: Math.floor(index / (cores * threads)),
      core: Math.floor(index / threads) % cores,
      thread: index % threads,
    }));
  }

  /** The guest's disks, in their order. */
  get disks(): readonly AttachedDisk[] {
    return this.#hardware.disks;
  }

  /** The serial console's file, or the terminal for other programs, where one was asked for. */
  get serialPath(): string | undefined {
    return this.#hardware.serial?.path;
  }

  /** The same of the PCI serial cards. */
  get serialCardPaths(): readonly string[] {
    return this.#hardware.serialCards.map(({ path }) => path);
  }

  /** The guest's network cards, in their order. */
  get networks(): readonly AttachedNetwork[] {
    return this.#hardware.networks;
  }

  /** Types on the serial console. */
  type(bytes: Uint8Array | string): void {
    this.#life.pc.serial[0]!.write(bytes);
  }

  /**
   * Starts a command in the guest, once its agent is there; the image has to have one. Rejects when the machine ends before.
   */
  async spawn(command: readonly string[], { signal, ...options }: SpawnOptions = {}): Promise<GuestProcess> {
    return await this.#hardware.agents.start(jobScript(command, options), signal);
  }

  /** Runs a command in the guest to its end, as {@link spawn} does, and collects what it writes, as UTF-8. */
  async exec(command: readonly string[], { input, signal, ...options }: ExecOptions = {}): Promise<ExecResult> {
    signal?.throwIfAborted();
    const process = await this.spawn(command, { ...options, ...(signal && { signal }) });
    const kill = () => process.kill("SIGKILL");
    signal?.addEventListener("abort", kill, { once: true });
    try {
      process.stdin.end(input);
      const [stdout, stderr, status] = await Promise.all([text(process.stdout), text(process.stderr), process.exited]);
      signal?.throwIfAborted();
      return { stdout, stderr, status };
    } finally {
      signal?.removeEventListener("abort", kill);
    }
  }

  /** How often each vCPU has left the guest for a device since it was last reset. */
  exits(): number[] {
    return this.#life.pc.exits();
  }

  /** Tells the guest how large the terminal is in which its serial console is shown, once its agent is there. */
  setWindow(rows: number, columns: number): void {
    this.#hardware.agents.setWindow("/dev/ttyS0", rows, columns);
  }

  /** Told what becomes of the machine, until the result is disposed of. */
  watch(listener: (event: LifeEvent) => void): Disposable {
    return this.#life.watch(listener);
  }

  /** Stops all vCPUs between two instructions; resolves when they stand. */
  pause(): Promise<void> {
    this.#trouble.leaveToUser();
    return this.#life.pause();
  }

  resume(): void {
    this.#life.resume();
  }

  /** Presses the power button: most guests shut down then. */
  shutDown(): void {
    this.#life.pressPowerButton();
  }

  /** Presses the reset button; resolves when the guest begins anew. */
  reset(): Promise<void> {
    return this.#life.reset();
  }

  /** Plugs in a disk while the guest runs. `id` is what {@link AttachedDisk.id} is to be; default: the next free name. */
  plugDisk(options: DiskOptions, id?: string): Promise<AttachedDisk> {
    return this.#hotplug.plugDisk(options, id);
  }

  /** Plugs in a network card while the guest runs. */
  plugNetwork(options: NetworkOptions, id?: string): Promise<AttachedNetwork> {
    return this.#hotplug.plugNetwork(options, id);
  }

  /** Asks the guest to let go of a disk or a network card; resolves when it has, and what was behind it is closed. */
  unplug(one: AttachedDisk | AttachedNetwork): Promise<void> {
    return this.#hotplug.unplug(one);
  }

  /** How much of its memory the guest shall leave to the host; it does so as it can. */
  setBalloon(bytes: number): void {
    this.#hardware.balloon.setTarget(bytes);
  }

  /** How much it has left. */
  get balloonBytes(): number {
    return this.#hardware.balloon.actualBytes;
  }

  /** Ends the machine as if its plug were pulled. */
  async stop(): Promise<void> {
    await this.#resources.disposeAsync();
    await this.ended;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}

/** How a machine ended, as half a sentence. */
export function describeEnd(end: MachineEnd): string {
  switch (end.reason) {
    case "power-off":
      return "the guest switched it off";
    case "reset":
      return "the guest asked for a reset";
    case "panicked":
      return "the guest's kernel panicked";
    case "debug-exit":
      return `the guest ended it with status ${end.status}`;
    case "stopped":
      return "it was stopped";
    case "crash":
      return `vCPU ${end.vcpu} cannot go on: ${end.message}`;
  }
}
