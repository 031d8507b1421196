/**
 * A monitor as small as can be: boots a bare-metal program on the software processor as QEMU's `-kernel` does, and says
 * what the program says. Timestamps are taken where a port write arrives.
 *
 *     node bench/cpu/soft.ts PROGRAM PROCESSORS
 */

import { readFileSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { ExitReason, exitError, flatProtectedMode } from "@lodge/kvm";
import { openSoft } from "@lodge/softkvm";
import { compileThread } from "../../packages/machine/src/vcpu/compiler-link.ts";
import { CompilerThread } from "../../packages/machine/src/vcpu/compiler-thread.ts";
import { heedHints } from "../../packages/machine/src/vcpu/hints.ts";
import { entryOf, loadElf } from "./elf.ts";
import { DEBUG_PORT, EXIT_PORT, MEMORY_BYTES, Protocol } from "./protocol.ts";

heedHints();
const [path, processors] = process.argv.slice(2);
const compiler = new CompilerThread(processors === "2" ? 2 : 1);
const hypervisor = openSoft({ compileThread: () => compileThread(compiler.links[0]!) });
const memory = hypervisor.createMemory(MEMORY_BYTES);
const vm = hypervisor.createVm(memory);
vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: MEMORY_BYTES, memoryOffset: 0 });
vm.createIrqchip();
const program = readFileSync(path!);
loadElf(program, new Uint8Array(memory.buffer));

const vcpu = vm.createVcpu(0);
vcpu.setCpuid(hypervisor.supportedCpuid());
vcpu.setSregs(flatProtectedMode(vcpu.getSregs()));
vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(entryOf(program)), rflags: 2n });
if (processors === "2") {
  const link = compiler.links[1]!;
  const ready = new Int32Array(new SharedArrayBuffer(4));
  const second = new Worker(new URL("./second.ts", import.meta.url), {
    workerData: { handle: vm.handle, ready, link },
    transferList: [link.port],
  });
  second.on("error", (error) => {
    throw error;
  });
  // The vCPU has to be there when the first one starts it; this thread does not come back to its event loop.
  await new Promise((resolve) => second.once("message", resolve));
}

const protocol = new Protocol();
for (;;) {
  const reason = vcpu.run();
  if (reason === ExitReason.INTR) continue;
  if (reason !== ExitReason.IO) throw exitError(vcpu.page);
  const { port } = vcpu.page.io;
  if (port === DEBUG_PORT) protocol.take(vcpu.page.io.value() & 0xff, performance.now());
  else if (port === EXIT_PORT) break;
}
process.stdout.write(`${JSON.stringify(protocol.outcome)}\n`, () => process.exit(0));
