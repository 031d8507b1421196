/** The thread of one vCPU: it owns it, runs it when told, and answers its exits from the devices' registers. */

import { parentPort, workerData } from "node:worker_threads";
import type { Hypervisor, Msi, Vcpu, Vm } from "@lodge/kvm";
import { gettid, setAffinity } from "@lodge/linux";
import { openHypervisor } from "../accelerator.ts";
import { enter } from "../boot/entry.ts";
import { Chipset } from "../chipset.ts";
import { interruptLine } from "../interrupts.ts";
import { connectPci } from "../pci/root.ts";
import { type Message, type Request, type ThreadSetup, type VcpuSetup, Wanted } from "./protocol.ts";
import { registersOf, setRegisters } from "./registers.ts";
import { type Buses, type Stop, step } from "./step.ts";

const port = parentPort!;
const { accelerator, codeCache }: ThreadSetup = workerData;
const post = (message: Message) => port.postMessage(message);

function run(vcpu: Vcpu, buses: Buses, control: Int32Array, exits: Float64Array): Stop {
  for (;;) {
    const stop = step(vcpu.run(), vcpu.page, buses);
    exits[0]! += 1;
    // A kick is for whoever wants the vCPU to stop; others leave no trace here.
    if (stop === undefined || (stop.reason === "kicked" && Atomics.load(control, 0) === Wanted.RUNNING)) continue;
    return stop;
  }
}

function serve(vm: Vm, vcpu: Vcpu, buses: Buses, setup: VcpuSetup, resources: DisposableStack): void {
  const control = new Int32Array(setup.control);
  const exits = new Float64Array(setup.exits.counters, 8 * setup.exits.index, 1);
  port.on("message", (request: Request) => {
    try {
      switch (request.do) {
        case "open":
          throw new Error("the thread has its vCPU already");
        case "run":
          post({ type: "stopped", stop: run(vcpu, buses, control, exits) });
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

async function open(hypervisor: Hypervisor, setup: VcpuSetup, resources: DisposableStack): Promise<void> {
  const threadId = gettid();
  if (setup.affinity !== undefined) setAffinity(threadId, setup.affinity);
  const vm = hypervisor.attachVm(setup.vm);
  const notifier = resources.use(hypervisor.attachNotifier(setup.wakeHost));
  const line = (gsi: number) => interruptLine(vm, gsi);
  const chipset = new Chipset(setup.chipset, {
    line,
    wakeHost: () => notifier.signal(),
    panicked: (crashLoaded) => post({ type: "panicked", crashLoaded }),
  });
  const wires = { hypervisor, vm, line, send: (message: Msi) => vm.signalMsi(message) };
  connectPci(setup.pci, chipset, wires, resources);
  const vcpu = vm.createVcpu(setup.id);
  vcpu.setCpuid(setup.cpuid);
  if (setup.entry !== undefined) enter(vcpu, setup.entry);
  serve(vm, vcpu, chipset, setup, resources);
  post({ type: "ready", kick: vcpu.kickHandle, threadId });
}

async function begin(): Promise<void> {
  const resources = new DisposableStack();
  // The request may be there already: it waits for its listener.
  const hypervisor = resources.use(await openHypervisor(accelerator, codeCache));
  const { promise, resolve } = Promise.withResolvers<Request>();
  port.once("message", resolve);
  const request = await promise;
  if (request.do !== "open") throw new Error(`the thread was asked to ${request.do} before it had a vCPU`);
  await open(hypervisor, request.setup, resources);
}

begin().catch((error: Error) => post({ type: "failed", message: error.stack ?? error.message }));
