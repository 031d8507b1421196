/**
 * A virtual machine for those who want to use one:
 *
 *     await using vm = await Machine.start({ image: "tiny", memory: "512M" });
 *     const { stdout, status } = await vm.exec(["uname", "-a"]);
 */

import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import { BlkDevice, ConsoleDevice, RngDevice } from "@lodge/devices";
import { type PcEnd as MachineEnd, Pc } from "@lodge/machine";
import { openImage } from "@lodge/storage";
import { type Choice, chooseAccelerator } from "./accelerator.ts";
import { Agents } from "./agent/agents.ts";
import type { GuestProcess } from "./agent/channel.ts";
import { type CommandOptions, jobScript } from "./agent/job.ts";
import { checkOptions, type MachineOptions } from "./configuration/options.ts";
import { VmmError } from "./errors.ts";
import { MachineTarget } from "./gdb/machine-target.ts";
import { serveGdb } from "./gdb/server.ts";
import { prepareImage } from "./images/store.ts";

export interface ExecOptions extends CommandOptions {
  /** What the command reads. Default: nothing, so that it finds its input ended. */
  readonly input?: string | Uint8Array;
  /** Kills the command when it is aborted. */
  readonly signal?: AbortSignal;
}

export interface ExecResult {
  readonly stdout: string;
  readonly stderr: string;
  /** The command's exit status; 128 and the number of a signal that ended it; 127 when there is no such program. */
  readonly status: number;
}

export class Machine implements AsyncDisposable {
  /** What it runs on, and why. */
  readonly accelerator: Choice;
  /** Resolves when the machine has come to its end. */
  readonly ended: Promise<MachineEnd>;
  readonly #pc: Pc;
  readonly #agents: Agents;
  readonly #resources: AsyncDisposableStack;

  /**
   * Makes a machine and lets it run; its kernel has not said a word yet when this resolves. A `VmmError`, `MachineError` or
   * `KvmError` says what cannot be; nothing is left behind then.
   */
  static async start(options: MachineOptions = {}): Promise<Machine> {
    const { progress = () => {}, signal } = options;
    const checked = await checkOptions(options);
    const accelerator = chooseAccelerator(checked.accel);
    const image =
      checked.image === undefined
        ? undefined
        : await prepareImage(checked.image, { progress, ...(signal && { signal }) });
    signal?.throwIfAborted();
    const agents = new Agents();
    const console = new ConsoleDevice({ ports: [{ console: true, onData: () => true }, ...agents.portOptions] });
    agents.connect(console.ports.slice(1));
    const initrd = image === undefined ? checked.initrd : await readFile(image.initrd);
    await using undo = new AsyncDisposableStack();
    const disks: BlkDevice[] = [];
    for (const { file, readonly: readOnly = false, serial } of checked.disks) {
      const disk = await openImage(file, { readOnly });
      undo.defer(() => disk.close());
      disks.push(new BlkDevice({ disk, queues: checked.cpus.count, ...(serial !== undefined && { serial }) }));
    }
    let target: MachineTarget | undefined;
    const description = {
      accelerator: accelerator.kind,
      memoryBytes: checked.memoryBytes,
      cpus: { ...checked.cpus, ...(options.cpu !== undefined && { model: options.cpu }) },
      kernel: checked.kernel ?? (await readFile(image!.kernel)),
      commandLine: [image?.append, options.append].filter((part) => part !== undefined).join(" "),
      serial: [options.console ?? (() => {})],
      ...(initrd && { initrd }),
      ...(options.debugConsole && { debugConsole: options.debugConsole }),
      ...(options.debugExitPort !== undefined && { debugExitPort: options.debugExitPort }),
      ...(options.testDevice && { testDevice: true }),
      virtio: [console, new RngDevice(), ...disks],
    };
    const pc = undo.use(await Pc.create(description, { debugged: (exit) => target?.debugged(exit) }));
    if (options.gdbPort !== undefined) {
      target = new MachineTarget(pc);
      undo.use(await serveGdb(target, options.gdbPort));
    }
    pc.start();
    return new Machine(pc, accelerator, agents, undo.move());
  }

  private constructor(pc: Pc, accelerator: Choice, agents: Agents, resources: AsyncDisposableStack) {
    this.#pc = pc;
    this.#resources = resources;
    this.accelerator = accelerator;
    this.#agents = agents;
    this.ended = pc.ended.then((end) => {
      agents.end(new VmmError("VMM_ENDED", `the machine has ended: ${describeEnd(end)}`));
      return end;
    });
  }

  /** Types on the serial console. */
  type(bytes: Uint8Array | string): void {
    this.#pc.serial[0]!.write(bytes);
  }

  /**
   * Starts a command in the guest, once its agent is there; the image has to have one. Rejects when the machine ends before.
   */
  async spawn(command: readonly string[], options: CommandOptions = {}): Promise<GuestProcess> {
    return await this.#agents.start(jobScript(command, options));
  }

  /** Runs a command in the guest to its end, as {@link spawn} does, and collects what it writes, as UTF-8. */
  async exec(command: readonly string[], { input, signal, ...options }: ExecOptions = {}): Promise<ExecResult> {
    signal?.throwIfAborted();
    const process = await this.spawn(command, options);
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

  /** Tells the guest how large the terminal is in which its serial console is shown. Waits for the guest's agent. */
  async setWindow(rows: number, columns: number): Promise<void> {
    await this.#agents.setWindow("/dev/ttyS0", rows, columns);
  }

  async pause(): Promise<void> {
    await this.#pc.pause();
  }

  resume(): void {
    this.#pc.resume();
  }

  /** Presses the power button: most guests shut down then. */
  shutDown(): void {
    this.#pc.pressPowerButton();
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
    case "debug-exit":
      return `the guest ended it with status ${end.status}`;
    case "stopped":
      return "it was stopped";
    case "crash":
      return `vCPU ${end.vcpu} cannot go on: ${end.message}`;
  }
}
