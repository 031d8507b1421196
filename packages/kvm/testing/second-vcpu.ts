/** A thread that tries to create vCPU 0 of a machine that has one, and posts the error. */

import { parentPort, workerData } from "node:worker_threads";
import { openKvm } from "../src/linux/index.ts";

using kvm = openKvm();
using vm = kvm.attachVm(workerData);
try {
  vm.createVcpu(0).close();
} catch (error) {
  const { code, message } = error as { code: string; message: string };
  parentPort!.postMessage({ code, message });
}
