/** The thread of one vCPU: it owns it, runs it when told, and answers its exits from the devices' registers. */

import { readlinkSync } from "node:fs";
import { basename } from "node:path";
import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import type { Hypervisor, Msi, Vcpu, Vm } from "@lodge/kvm";
import { openHypervisor } from "../accelerator.ts";
import { enter } from "../boot/entry.ts";
import { Chipset } from "../chipset.ts";
import { interruptLine } from "../interrupts.ts";
import { keepCompiled } from "../modules/loader.ts";
import { connectPci, type Plug } from "../pci/root.ts";
import { compileThread } from "./compiler-link.ts";
import { garbageCollector } from "./garbage.ts";
import { NearRegisters } from "./near-registers.ts";
import {
  type Message,
  type Request,
  type ThreadPurpose,
  type ThreadSetup,
  type VcpuSetup,
  Wanted,
} from "./protocol.ts";
import { registersOf, setRegisters } from "./registers.ts";
import { type Buses, type Stop, step } from "./step.ts";

const port = parentPort!;
const { purpose, plugs }: ThreadSetup = workerData;
const post = (message: Message) => port.postMessage(message);

/** `settle` takes what the machine has sent of its slots: it kicks a vCPU for that, too. */
function run(vcpu: Vcpu, buses: Buses, settle: () => void, control: Int32Array, exits: Float64Array): Stop {
  const near = new NearRegisters(buses, exits);
  vcpu.attachDevices?.(near);
  settle();
  for (;;) {
    const exit = vcpu.run();
    const stop = near.takeStop() ?? step(exit, vcpu.page, buses);
    exits[0]! += 1;
    if (stop === undefined) continue;
    if (stop.reason !== "kicked" || Atomics.load(control, 0) !== Wanted.RUNNING) return stop;
    settle();
  }
}

function serve(
  vm: Vm,
  vcpu: Vcpu,
  { buses, settle }: { buses: Buses; settle: () => void },
  setup: VcpuSetup,
  resources: DisposableStack,
): void {
  const control = new Int32Array(setup.control);
  const exits = new Float64Array(setup.exits.counters, 8 * setup.exits.index, 1);
  port.on("message", (request: Request) => {
    try {
      switch (request.do) {
        case "open":
          throw new Error("the thread has its vCPU already");
        case "run":
          post({ type: "stopped", stop: run(vcpu, buses, settle, control, exits) });
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
          break;
      }
    } catch (error) {
      post({ type: "failed", message: error instanceof Error ? (error.stack ?? error.message) : String(error) });
    } finally {
      // However that went: the machine waits for the thread's end.
      if (request.do === "close") port.close();
    }
  });
}

async function open(hypervisor: Hypervisor, setup: VcpuSetup, resources: DisposableStack): Promise<void> {
  // By the kernel's own link, as all of the system calls' package would be loaded for one number.
  const threadId = Number(basename(readlinkSync("/proc/thread-self")));
  if (setup.affinity !== undefined) (await import("@lodge/linux")).setAffinity(threadId, setup.affinity);
  const vm = hypervisor.attachVm(setup.vm);
  const notifier = resources.use(hypervisor.attachNotifier(setup.wakeHost));
  const line = (gsi: number) => interruptLine(vm, gsi);
  const chipset = new Chipset(setup.chipset, {
    line,
    wakeHost: () => notifier.signal(),
    panicked: (crashLoaded) => post({ type: "panicked", crashLoaded }),
  });
  const wires = {
    hypervisor,
    vm,
    line,
    send: (message: Msi) => vm.signalMsi(message),
    nextPlug: () => receiveMessageOnPort(plugs)?.message as Plug | undefined,
    released: (slot: number) => post({ type: "released", slot }),
    wakeHost: () => notifier.signal(),
  };
  const settle = connectPci(setup.pci, chipset, wires, resources);
  const vcpu = vm.createVcpu(setup.id);
  vcpu.setCpuid(setup.cpuid);
  if (setup.entry !== undefined) enter(vcpu, setup.entry);
  serve(vm, vcpu, { buses: chipset, settle }, setup, resources);
  // What this start has compiled, the next one has, also if this process is killed: a thread that runs its vCPU is not asked again.
  keepCompiled();
  post({ type: "ready", kick: vcpu.kickHandle, threadId });
}

async function begin(): Promise<void> {
  const resources = new DisposableStack();
  const { accelerator, codeCache, compiler } = await new Promise<ThreadPurpose>((known) =>
    purpose.once("message", known),
  );
  purpose.close();
  // The request may be there already: it waits for its listener.
  const hypervisor = resources.use(
    await openHypervisor(accelerator, {
      codeCache,
      compileThread: compiler && compileThread(compiler),
      idle: garbageCollector(() => post({ type: "collected" })),
    }),
  );
  const { promise, resolve } = Promise.withResolvers<Request>();
  port.once("message", resolve);
  const request = await promise;
  if (request.do !== "open") throw new Error(`the thread was asked to ${request.do} before it had a vCPU`);
  await open(hypervisor, request.setup, resources);
}

begin().catch((error: Error) => post({ type: "failed", message: error.stack ?? error.message }));
