/** The thread of the second processor: see soft.ts. */

import { parentPort, workerData } from "node:worker_threads";
import { ExitReason, exitError } from "@lodge/kvm";
import { openSoft } from "@lodge/softkvm";
import { type CompilerLink, compileThread } from "../../packages/machine/src/vcpu/compiler-link.ts";

const { link } = workerData as { link: CompilerLink };
const hypervisor = openSoft({ compileThread: () => compileThread(link) });
const vm = hypervisor.attachVm(workerData.handle);
const vcpu = vm.createVcpu(1);
vcpu.setCpuid(hypervisor.supportedCpuid());
parentPort!.postMessage("ready");
for (;;) {
  const reason = vcpu.run();
  if (reason !== ExitReason.INTR) throw exitError(vcpu.page);
}
