/** Programs that serve vhost-user, as processes of a test. */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { availableParallelism } from "node:os";

const { stdout: passtHelp } = spawnSync("passt", ["--help"], { encoding: "utf8" });
export const noPasst = passtHelp?.includes("--vhost-user") ? false : "there is no passt here that knows vhost-user";

const isMissing = spawnSync("dpdk-testpmd", ["--version"]).error !== undefined;
export const noDpdk = isMissing
  ? "dpdk-testpmd is not installed"
  : availableParallelism() < 2 && "dpdk-testpmd wants two processors";

export class Peer implements AsyncDisposable {
  readonly #process: ChildProcess;
  readonly #path: string;

  /** Resolves when it listens at `path`. */
  static async start(path: string, command: readonly string[], listens: RegExp): Promise<Peer> {
    rmSync(path, { force: true });
    const [program, ...args] = command;
    const child = spawn(program!, args, { stdio: ["pipe", "pipe", "pipe"] });
    let said = "";
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (data: Buffer) => {
        said += data;
        if (listens.test(said)) resolve();
      });
    }
    child.once("exit", () => reject(new Error(`${program} has ended:\n${said}`)));
    await promise;
    return new Peer(child, path);
  }

  private constructor(child: ChildProcess, path: string) {
    this.#process = child;
    this.#path = path;
  }

  /** NAT like ours, whose gateway leads to the host's loopback address. */
  static passt(path: string): Promise<Peer> {
    const addresses = ["--address", "10.9.0.15", "--netmask", "24", "--gateway", "10.9.0.2", "--ipv4-only"];
    const command = ["passt", "--vhost-user", "--socket", path, "--foreground", "--runas", "0", ...addresses];
    return Peer.start(path, command, /You can start qemu with/);
  }

  /** Answers ARP and pings, whatever the address. It polls, on a processor of its own. */
  static testpmd(path: string, { queues, tso }: { queues: number; tso: 0 | 1 }): Promise<Peer> {
    const eal = ["--no-huge", "--no-shconf", "--no-pci", "--no-telemetry", "-m", "128", "--lcores", "(0-1)@(0,1)"];
    const device = ["--vdev", `net_vhost0,iface=${path},queues=${queues},tso=${tso}`];
    const counts = [`--rxq=${queues}`, `--txq=${queues}`, "--total-num-mbufs=4096"];
    const app = ["--forward-mode=icmpecho", ...counts, "--no-mlockall", "--auto-start"];
    return Peer.start(path, ["nice", "dpdk-testpmd", ...eal, ...device, "--", ...app], /Checking link statuses/);
  }

  /** Ends it as a crash would. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      const ended = once(this.#process, "exit");
      this.#process.kill("SIGKILL");
      await ended;
    }
    rmSync(this.#path, { force: true });
    rmSync(`${this.#path}.repair`, { force: true });
  }
}
