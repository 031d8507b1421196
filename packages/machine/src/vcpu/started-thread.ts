/** Threads for vCPUs, started ahead: they load their code while everything else is made, or even before that is. */

import { getCompileCacheDir } from "node:module";
import { basename, dirname, extname } from "node:path";
import { fileURLToPath } from "node:url";
import { MessageChannel, type MessagePort, Worker, type WorkerOptions } from "node:worker_threads";
import { type LoaderFile, loaderItself } from "../modules/loader.ts";
import type { Plug } from "../pci/root.ts";
import type { ThreadPurpose, ThreadSetup } from "./protocol.ts";

/** What a thread begins with, beside what it is for. */
export interface ThreadStart {
  /** What loads modules; the file of its code; the name of what is kept of that. */
  readonly loader: readonly LoaderFile[];
  readonly code: string;
  readonly set: string;
  /** Where what is compiled is kept, if it is. */
  readonly compileCache: string | undefined;
}

/**
 * Where the thread begins: each thread has to be told for itself to keep what Node compiles. In JavaScript, and no file, as
 * the first TypeScript of a thread that is not in the cache costs 100 ms for Node's compiler. Whether it is an ES module, the process's
 * own flags say (`--input-type`).
 */
const START = `
  const { compileCache: folder, loader, code, set } = process.getBuiltinModule("node:worker_threads").workerData;
  if (folder !== undefined) process.getBuiltinModule("node:module").enableCompileCache(folder);
  const { Script } = process.getBuiltinModule("node:vm");
  const { pathToFileURL } = process.getBuiltinModule("node:url");
  const made = {};
  const use = (name) => made[name] ?? process.getBuiltinModule(name);
  for (const { path, name, code, compiled } of loader) {
    const script = new Script(code, { filename: path, cachedData: compiled });
    made[name] = script.runInThisContext()(use, undefined, undefined, { url: pathToFileURL(path).href });
  }
  const { beginLoading, keepCompiled, load } = Object.values(made).at(-1);
  beginLoading({ folder, set });
  process.once("exit", () => keepCompiled(true));
  load(code);
`;

/** Starts a thread whose code is at this URL. `more` is its `workerData`, beside {@link ThreadStart}. */
export function startWorker<More extends object>(
  code: URL,
  more: More,
  options: Pick<WorkerOptions, "name" | "transferList" | "resourceLimits">,
): Worker {
  const compiled = getCompileCacheDir();
  const path = fileURLToPath(code);
  const start: ThreadStart = {
    loader: loaderItself(),
    code: path,
    set: basename(path, extname(path)),
    // What Node names is a folder of this version's inside the one that it was given.
    compileCache: compiled === undefined ? undefined : dirname(compiled),
  };
  return new Worker(START, { ...options, eval: true, workerData: { ...start, ...more } });
}

export class StartedThread {
  readonly worker: Worker;
  readonly #plugs: MessagePort;
  readonly #purpose: MessagePort;
  /** Nobody was there to hear that it has failed. */
  #failed = false;

  constructor(id: number) {
    const plugs = new MessageChannel();
    const purpose = new MessageChannel();
    this.#plugs = plugs.port1;
    this.#purpose = purpose.port1;
    const setup: ThreadSetup = { purpose: purpose.port2, plugs: plugs.port2 };
    this.worker = startWorker(new URL("./worker.ts", import.meta.url), setup, {
      name: `vcpu${id}`,
      transferList: [purpose.port2, plugs.port2],
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
    this.#purpose.postMessage(purpose, purpose.compiler === undefined ? [] : [purpose.compiler.port]);
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
