/** The kernel's /dev/kvm as a host of the suite. */

import { cpus } from "node:os";
import { Worker } from "node:worker_threads";
import { INTERPRETED_NS, measureRingZero } from "../../src/index.ts";
import { openKvm } from "../../src/linux/index.ts";
import type { Host } from "../case.ts";
import type { ThreadHandle } from "../port.ts";
import { assemble } from "./assembler.ts";

/** Throws the `KvmError` that says why there is none. */
export function openKvmHost(): Host {
  const hypervisor = openKvm();
  const tcg = cpus()[0]?.model.startsWith("QEMU TCG") ?? false;
  return {
    name: "kvm",
    hypervisor,
    // TCG's SVM always executes, however long that takes on a busy machine.
    interprets: !tcg && measureRingZero(hypervisor) > INTERPRETED_NS,
    tcg,
    thorough: process.env.LODGE_LONG === "1",
    assemble,
    startThread: () => startWorker(new URL("./kvm-thread.ts", import.meta.url)),
  };
}

/** A Node worker as a thread of the suite. It does not keep the process from ending. */
export function startWorker(entry: URL): ThreadHandle {
  const worker = new Worker(entry);
  worker.unref();
  return {
    post: (message) => worker.postMessage(message),
    listen: (receive) => {
      worker.on("message", receive);
    },
    onFailure: (report) => {
      worker.on("error", (error) => report(error as Error));
    },
    end: async () => {
      await worker.terminate();
    },
  };
}
