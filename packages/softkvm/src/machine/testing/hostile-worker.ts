/** Runs a hostile guest until it is kicked; see hostile.test.ts. */

import { parentPort, workerData } from "node:worker_threads";
import { ExitReason } from "@lodge/kvm";
import { HOSTILE_GUESTS, hostileMachine } from "./hostile-guests.ts";

const { vm, vcpu } = hostileMachine(HOSTILE_GUESTS[workerData as number]!);
using _vm = vm;
using _vcpu = vcpu;
parentPort!.postMessage(vcpu.kickHandle);
let exits = 0;
while (vcpu.run() !== ExitReason.INTR) exits += 1;
parentPort!.postMessage(exits);
