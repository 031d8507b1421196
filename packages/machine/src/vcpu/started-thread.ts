/** Threads for vCPUs, started ahead: they load their code while everything else is made, or even before that is. */

import { getCompileCacheDir } from "node:module";
import { dirname } from "node:path";
import { MessageChannel, type MessagePort, Worker } from "node:worker_threads";
import type { Plug } from "../pci/root.ts";
import type { ThreadPurpose, ThreadSetup } from "./protocol.ts";

/**
 * Where the thread begins: each thread has to be told for itself to keep what Node compiles. In JavaScript, and no file, as
 * the first TypeScript of a thread that is not in the cache costs 100 ms for Node's compiler.
 */
const START = `
  const { compileCache, resolution, code } = require("node:worker_threads").workerData;
  if (compileCache !== undefined) require("node:module").enableCompileCache(compileCache);
  import(resolution).then(({ resolveOwnModulesQuickly }) => {
    resolveOwnModulesQuickly();
    return import(code);
  });
`;

export class StartedThread {
  readonly worker: Worker;
  readonly #plugs: MessagePort;
  readonly #purpose: MessagePort;
  /** Nobody was there to hear that it has failed. */
  #failed = false;

  constructor(id: number) {
    const compiled = getCompileCacheDir();
    const plugs = new MessageChannel();
    const purpose = new MessageChannel();
    this.#plugs = plugs.port1;
    this.#purpose = purpose.port1;
    const setup: ThreadSetup = {
      resolution: new URL("../resolution.ts", import.meta.url).href,
      code: new URL("./worker.ts", import.meta.url).href,
      // What Node names is a folder of this version's inside the one that it was given.
      compileCache: compiled === undefined ? undefined : dirname(compiled),
      purpose: purpose.port2,
      plugs: plugs.port2,
    };
    this.worker = new Worker(START, {
      eval: true,
      workerData: setup,
      transferList: [purpose.port2, plugs.port2],
      name: `vcpu${id}`,
    });
  }

  /** A process may end, and does not hear of a failure, until {@link use}. */
  setAside(): void {
    this.worker.unref();
    const fail = () => {
      this.#failed = true;
    };
    this.worker.once("error", fail).once("exit", fail);
  }

  get isAlive(): boolean {
    return !this.#failed;
  }

  /** It is known now what it is for. */
  use(purpose: ThreadPurpose): void {
    this.worker.ref();
    this.#purpose.postMessage(purpose);
  }

  plug(message: Plug): void {
    this.#plugs.postMessage(message);
  }

  /** The worker has ended. */
  close(): void {
    this.#plugs.close();
    this.#purpose.close();
  }
}

let ahead: StartedThread | undefined;

/** Starts the thread of the first vCPU of this process's next machine, for who knows that there will be one. */
export function startThreadAhead(): void {
  if (ahead?.isAlive) return;
  ahead = new StartedThread(0);
  ahead.setAside();
}

/** The thread for a vCPU. */
export function threadFor(id: number): StartedThread {
  const known = ahead;
  if (id !== 0 || known === undefined) return new StartedThread(id);
  ahead = undefined;
  return known.isAlive ? known : new StartedThread(id);
}
