/** The thread of the vCPU that is kicked. */

import { parentPort, workerData } from "node:worker_threads";
import { ExitReason, exitError, flatProtectedMode } from "@lodge/kvm";
import { gettid, processorTimeUs } from "@lodge/linux";
import { openSoft } from "@lodge/softkvm";
import { type CompilerLink, compileThread } from "../../packages/machine/src/vcpu/compiler-link.ts";
import { LOOPS, Word } from "./loops.ts";

const CODE = 0x1000;

const { handle, loop, words, stopped, busy, link } = workerData as {
  handle: Parameters<ReturnType<typeof openSoft>["attachVm"]>[0];
  loop: keyof typeof LOOPS;
  words: Int32Array;
  stopped: BigInt64Array;
  busy: Float64Array;
  link: CompilerLink;
};
const threadId = gettid();
const hypervisor = openSoft({ compileThread: () => compileThread(link) });
const vm = hypervisor.attachVm(handle);
using vcpu = vm.createVcpu(0);
new Uint8Array(vm.memory.buffer).set(LOOPS[loop], CODE);
vcpu.setCpuid(hypervisor.supportedCpuid());
vcpu.setSregs(flatProtectedMode(vcpu.getSregs()));
vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(CODE), rsp: 0x8000n, rflags: 2n });
parentPort!.postMessage({ handle: vcpu.kickHandle, threadId });
for (;;) {
  const reason = vcpu.run();
  if (reason !== ExitReason.INTR) throw exitError(vcpu.page);
  stopped[0] = process.hrtime.bigint();
  busy[0] = processorTimeUs(threadId);
  const isLast = Atomics.load(words, Word.last) === 1;
  Atomics.add(words, Word.stops, 1);
  Atomics.notify(words, Word.stops);
  if (isLast) break;
}
