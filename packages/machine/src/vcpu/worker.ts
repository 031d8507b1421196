/** The thread of one vCPU: it owns it, runs it when told, and answers its exits from the devices' registers. */

import { parentPort, workerData } from "node:worker_threads";
import type { Vcpu, Vm } from "@lodge/kvm";
import { openHypervisor } from "../accelerator.ts";
import { enter } from "../boot/entry.ts";
import { Chipset } from "../chipset.ts";
import { interruptLine } from "../interrupts.ts";
import { connectPci } from "../pci/root.ts";
import { type Message, type Request, type VcpuSetup, Wanted } from "./protocol.ts";
import { registersOf, setRegisters } from "./registers.ts";
import { type Buses, type Stop, step } from "./step.ts";

const port = parentPort!;
const setup: VcpuSetup = workerData;
const post = (message: Message) => port.postMessage(message);

function run(vcpu: Vcpu, buses: Buses, control: Int32Array): Stop {
  for (;;) {
    const stop = step(vcpu.run(), vcpu.page, buses);
    // A kick is for whoever wants the vCPU to stop; others leave no trace here.
    if (stop === undefined || (stop.reason === "kicked" && Atomics.load(control, 0) === Wanted.RUNNING)) continue;
    return stop;
  }
}

function serve(vm: Vm, vcpu: Vcpu, buses: Buses, resources: DisposableStack): void {
  const control = new Int32Array(setup.control);
  port.on("message", (request: Request) => {
    try {
      switch (request.do) {
        case "run":
          post({ type: "stopped", stop: run(vcpu, buses, control) });
          break;
        case "registers":
          vcpu.completeExit();
          post({ type: "registers", registers: registersOf(vcpu) });
          break;
        case "set-registers":
          setRegisters(vcpu, request.registers);
          post({ type: "done" });
          break;
        case "translate":
          post({ type: "translation", translation: vcpu.translate(request.linearAddress) });
          break;
        case "watch":
          vcpu.setGuestDebug(request.debug);
          post({ type: "done" });
          break;
        case "close":
          vcpu.close();
          vm.close();
          resources.dispose();
          post({ type: "closed" });
          port.close();
          break;
      }
    } catch (error) {
      post({ type: "failed", message: error instanceof Error ? (error.stack ?? error.message) : String(error) });
    }
  });
}

async function open(): Promise<void> {
  const resources = new DisposableStack();
  if (setup.affinity !== undefined) {
    const { gettid, setAffinity } = await import("@lodge/linux");
    setAffinity(gettid(), setup.affinity);
  }
  const hypervisor = resources.use(await openHypervisor(setup.accelerator));
  const vm = hypervisor.attachVm(setup.vm);
  const notifier = resources.use(hypervisor.attachNotifier(setup.wakeHost));
  const line = (gsi: number) => interruptLine(vm, gsi);
  const chipset = new Chipset(setup.chipset, {
    line,
    wakeHost: () => notifier.signal(),
    panicked: (crashLoaded) => post({ type: "panicked", crashLoaded }),
  });
  connectPci(setup.pci, chipset, { line, send: (message) => vm.signalMsi(message) }, hypervisor, resources);
  const vcpu = vm.createVcpu(setup.id);
  vcpu.setCpuid(setup.cpuid);
  if (setup.entry !== undefined) enter(vcpu, setup.entry);
  serve(vm, vcpu, chipset, resources);
  post({ type: "ready", kick: vcpu.kickHandle });
}

open().catch((error: Error) => post({ type: "failed", message: error.stack ?? error.message }));
