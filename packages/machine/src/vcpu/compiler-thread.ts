/** The thread that compiles for the vCPUs of a machine on the software processor, beside theirs. */

import { MessageChannel, type Worker } from "node:worker_threads";
import { type CompilerLink, LinkState, LinkWord } from "./compiler-link.ts";
import { startWorker } from "./started-thread.ts";

/** It makes much that it soon forgets: without these it would keep 15 to 30 MiB of that. */
const LIMITS = { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 2 } as const;

export class CompilerThread {
  /** For each vCPU, to be given to its thread. */
  readonly links: readonly CompilerLink[];
  readonly #worker: Worker;

  constructor(vcpus: number) {
    const pairs = Array.from({ length: vcpus }, () => {
      const { port1, port2 } = new MessageChannel();
      const words = new SharedArrayBuffer(4 * LinkWord.count);
      return { ours: { port: port1, words }, theirs: { port: port2, words } };
    });
    this.links = pairs.map(({ ours }) => ours);
    const links = pairs.map(({ theirs }) => theirs);
    const ports = links.map(({ port }) => port);
    this.#worker = startWorker(
      new URL("./compiler-worker.ts", import.meta.url),
      { links },
      { name: "compiler", transferList: ports, resourceLimits: LIMITS },
    );
    // Without it, the vCPUs' threads compile for themselves.
    this.#worker.on("error", () => this.#gone()).on("exit", () => this.#gone());
  }

  #gone(): void {
    for (const { words } of this.links) Atomics.store(new Int32Array(words), LinkWord.state, LinkState.GONE);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
    // Of vCPUs whose threads never took theirs.
    for (const { port } of this.links) port.close();
  }
}
