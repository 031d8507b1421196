/** The thread of the vCPU that is kicked. */

import { parentPort, workerData } from "node:worker_threads";
import { ExitReason, exitError, flatProtectedMode } from "@lodge/kvm";
import { gettid, processorTimeUs } from "@lodge/linux";
import { openSoft } from "@lodge/softkvm";
import { type CompilerLink, compileThread } from "../../packages/machine/src/vcpu/compiler-link.ts";
import { entryOf, loadElf } from "../cpu/elf.ts";
import { Word } from "./loops.ts";
import type { KickedGuest } from "./main.ts";

const { handle, guest, words, stopped, busy, link } = workerData as {
  handle: Parameters<ReturnType<typeof openSoft>["attachVm"]>[0];
  guest: KickedGuest;
  words: Int32Array;
  stopped: BigInt64Array;
  busy: Float64Array;
  link: CompilerLink | undefined;
};
const threadId = gettid();
const hypervisor = openSoft({ compileThread: () => link && compileThread(link) });
const vm = hypervisor.attachVm(handle);
using vcpu = vm.createVcpu(0);
const memory = new Uint8Array(vm.memory.buffer);
const { code, entry = entryOf(code) } = guest;
if (guest.entry === undefined) loadElf(code, memory);
else memory.set(code, guest.entry);
vcpu.setCpuid(hypervisor.supportedCpuid());
vcpu.setSregs(flatProtectedMode(vcpu.getSregs()));
vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(entry), rsp: 0x8000n, rflags: 2n });
parentPort!.postMessage({ handle: vcpu.kickHandle, threadId });
for (;;) {
  const reason = vcpu.run();
  // What a program says.
  if (reason === ExitReason.IO) continue;
  if (reason !== ExitReason.INTR) throw exitError(vcpu.page);
  stopped[0] = process.hrtime.bigint();
  busy[0] = processorTimeUs(threadId);
  const isLast = Atomics.load(words, Word.last) === 1;
  Atomics.add(words, Word.stops, 1);
  Atomics.notify(words, Word.stops);
  if (isLast) break;
}
