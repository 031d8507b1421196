/** The thread of the idle guest, in real mode: it sets its timer and halts, again and again. */

import { parentPort, workerData } from "node:worker_threads";
import { ExitReason, exitError, flatRealMode } from "@lodge/kvm";
import { openSoft } from "@lodge/softkvm";

const PIT_HZ = 1_193_182;
const CODE = 0x1000;
const HANDLER = 0x1100;
const VECTOR = 0x20;

const hypervisor = openSoft();
const vm = hypervisor.attachVm(workerData.handle);
using vcpu = vm.createVcpu(0);
const view = new DataView(vm.memory.buffer);
const bytes = new Uint8Array(vm.memory.buffer);

/** mov $value, %al; out %al, $port */
const out = (port: number, value: number) => [0xb0, value, 0xe6, port];
const hz = workerData.hz as number;
const divisor = hz === 0 ? 0 : Math.round(PIT_HZ / hz);
const timer = [
  // The PIC's vectors from VECTOR on, the timer's line open; PIT channel 0 as a rate generator.
  ...[...out(0x20, 0x11), ...out(0x21, VECTOR), ...out(0x21, 4), ...out(0x21, 1), ...out(0x21, 0xfe)],
  ...[...out(0x43, 0x34), ...out(0x40, divisor & 0xff), ...out(0x40, divisor >> 8)],
];
// sti; hlt; jmp to hlt
bytes.set([...(hz === 0 ? [] : timer), 0xfb, 0xf4, 0xeb, 0xfd], CODE);
// incl 0x500; end of interrupt; iret
bytes.set([0x66, 0xff, 0x06, 0x00, 0x05, ...out(0x20, 0x20), 0xcf], HANDLER);
view.setUint32(VECTOR * 4, HANDLER, true);

vcpu.setCpuid(hypervisor.supportedCpuid());
vcpu.setSregs(flatRealMode(vcpu.getSregs()));
vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(CODE), rsp: 0x8000n, rflags: 2n });
parentPort!.postMessage(vcpu.kickHandle);
const reason = vcpu.run();
if (reason !== ExitReason.INTR) throw exitError(vcpu.page);
