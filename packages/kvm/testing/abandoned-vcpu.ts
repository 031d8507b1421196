/** A thread that makes vCPU 0 of a machine, has it run once, tells its number and how to kick it, and never closes it. */

import { parentPort, workerData } from "node:worker_threads";
import { gettid } from "@lodge/linux";
import { openKvm } from "../src/linux/index.ts";

const vm = openKvm().attachVm(workerData);
const vcpu = vm.createVcpu(0);
vcpu.run();
parentPort!.postMessage({ tid: gettid(), kickHandle: vcpu.kickHandle });
// Keeps the thread.
parentPort!.on("message", () => {});
