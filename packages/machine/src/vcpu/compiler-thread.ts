/** The thread that compiles for the vCPUs of a machine on the software processor, beside theirs. */

import { MessageChannel, type Worker } from "node:worker_threads";
import { type CompilerLink, LinkState, LinkWord } from "./compiler-link.ts";
import { startWorker } from "./started-thread.ts";

/**
 * It makes much that it soon forgets, and without these would keep 15 to 30 MiB of that. With 2 MiB for what is young it would spend
 * a quarter of its time on collecting garbage.
 */
const LIMITS = { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 8 } as const;

export class CompilerThread {
  /** For each vCPU, to be given to its thread. */
  readonly links: readonly CompilerLink[];
  readonly #workersLinks: readonly CompilerLink[];
  #worker: Worker | undefined;
  #isClosed = false;

  /** It begins when the first vCPU wants it. */
  constructor(vcpus: number) {
    const pairs = Array.from({ length: vcpus }, () => {
      const { port1, port2 } = new MessageChannel();
      const words = new SharedArrayBuffer(4 * LinkWord.count);
      return { ours: { port: port1, words }, theirs: { port: port2, words } };
    });
    this.links = pairs.map(({ ours }) => ours);
    this.#workersLinks = pairs.map(({ theirs }) => theirs);
    for (const { words } of this.links) void this.#startWhenWanted(new Int32Array(words));
  }

  async #startWhenWanted(words: Int32Array): Promise<void> {
    await Atomics.waitAsync(words, LinkWord.state, LinkState.UNUSED).value;
    if (this.#worker !== undefined || this.#isClosed) return;
    const links = this.#workersLinks;
    this.#worker = startWorker(
      new URL("./compiler-worker.ts", import.meta.url),
      { links },
      { name: "compiler", transferList: links.map(({ port }) => port), resourceLimits: LIMITS },
    );
    // Without it, the vCPUs' threads compile for themselves.
    this.#worker.on("error", () => this.#gone()).on("exit", () => this.#gone());
  }

  #gone(): void {
    for (const { words } of this.links) {
      const shared = new Int32Array(words);
      Atomics.store(shared, LinkWord.state, LinkState.GONE);
      Atomics.notify(shared, LinkWord.state);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    this.#gone();
    await this.#worker?.terminate();
    // Of vCPUs whose threads never took theirs, and of a thread that never began.
    for (const { port } of this.links) port.close();
    if (this.#worker === undefined) for (const { port } of this.#workersLinks) port.close();
  }
}
