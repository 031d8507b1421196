/**
 * Networks that a test makes for itself: this process's own, and hosts beside it, each a network namespace that lives as long
 * as the process in it. Nothing of them is left when the test ends, however it ends.
 */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { text } from "node:stream/consumers";
import { Namespace, unshare } from "@lodge/linux";

const missing = ["ip", "unshare", "nsenter"].find((program) => spawnSync(program, ["-V"]).error !== undefined);
/** Why networks cannot be made here, for `skip`. */
export const noNetworks =
  process.getuid?.() !== 0
    ? "networks are made as root"
    : !existsSync("/dev/net/tun")
      ? "there is no /dev/net/tun"
      : missing === undefined
        ? false
        : `${missing} is not installed`;

export function lacks(...programs: string[]): string | false {
  const lacking = programs.find((program) => spawnSync("sh", ["-c", `command -v ${program}`]).status !== 0);
  return noNetworks || (lacking === undefined ? false : `${lacking} is not installed`);
}

/**
 * From now on this process has a network of its own: a loopback device, and what is given to it. Once for each process. `sysfs`:
 * /sys shows it, which otherwise shows the network of who mounted that.
 */
export function enterOwnNetwork({ sysfs = false }: { sysfs?: boolean } = {}): void {
  unshare(Namespace.NEWNET | (sysfs ? Namespace.NEWNS : 0));
  if (sysfs) {
    command("mount", "--make-rprivate", "/");
    command("mount", "-t", "sysfs", "sysfs", "/sys");
  }
  command("ip", "link", "set", "lo", "up");
}

/** Runs a command here to its end; what it says on failure is the error. */
export function command(...[program, ...args]: [string, ...string[]]): string {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: "utf8" });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`${program} ${args.join(" ")}: ${stderr || stdout}`);
  return stdout;
}

export interface Ran {
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number | null;
}

/** Another host: a network namespace, and a process that keeps it. */
export class Host implements AsyncDisposable {
  readonly #keeper: ChildProcess;
  readonly #running = new Set<ChildProcess>();

  private constructor(keeper: ChildProcess) {
    this.#keeper = keeper;
  }

  static async make(): Promise<Host> {
    const keeper = spawn("unshare", ["-n", "sh", "-c", "ip link set lo up && echo up && exec cat"], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    const host = new Host(keeper);
    await once(keeper.stdout!, "data");
    return host;
  }

  get pid(): number {
    return this.#keeper.pid!;
  }

  /** Gives it a device of this process's network. */
  take(device: string): void {
    command("ip", "link", "set", device, "netns", String(this.pid));
  }

  start(...args: string[]): ChildProcess {
    // A process that this one leaves behind by dying goes with it.
    const child = spawn("nsenter", ["-t", String(this.pid), "-n", "setpriv", "--pdeathsig", "KILL", ...args]);
    this.#running.add(child);
    child.once("close", () => this.#running.delete(child));
    return child;
  }

  async run(...args: string[]): Promise<Ran> {
    const child = this.start(...args);
    child.stdin!.end();
    const closed = once(child, "close");
    const [stdout, stderr] = await Promise.all([text(child.stdout!), text(child.stderr!)]);
    const [status] = (await closed) as [number | null];
    return { stdout, stderr, status };
  }

  /** The same; a status other than 0 is an error that shows what was said. */
  async do(...args: string[]): Promise<string> {
    const { stdout, stderr, status } = await this.run(...args);
    if (status !== 0) throw new Error(`${args.join(" ")} ended with ${status}: ${stderr}${stdout}`);
    return stdout;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = [...this.#running, this.#keeper].map((child) => once(child, "close"));
    for (const child of this.#running) child.kill("SIGKILL");
    this.#keeper.stdin!.end();
    this.#keeper.kill("SIGKILL");
    await Promise.all(closed);
  }
}
