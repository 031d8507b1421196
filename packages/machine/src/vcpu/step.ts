/**
 * What becomes of an exit: devices answer, or the vCPU stops and its machine is told why. A pure step: it looks at the run
 * page and the buses, and knows neither threads nor the processor, so tests feed it exits that no guest made.
 */

import { ExitReason, exitError, type RunPage } from "@lodge/kvm";
import type { Bus } from "../bus/bus.ts";

/** Why a vCPU does not go on. */
export type Stop =
  /** It was kicked: its machine wants something. */
  | { readonly reason: "kicked" }
  /** The guest asked for it, by a device or by a triple fault. */
  | { readonly reason: "reset" }
  | { readonly reason: "power-off" }
  | { readonly reason: "debug-exit"; readonly status: number }
  /** A breakpoint or single step of a debugger. */
  | { readonly reason: "debug"; readonly exception: number; readonly pc: bigint; readonly dr6: bigint }
  /** The hypervisor cannot go on with the guest. */
  | { readonly reason: "crash"; readonly message: string };

export interface Buses {
  readonly ports: Bus;
  readonly memory: Bus;
  /** What a device was told to do with the machine by the access just answered. */
  takeRequest(): Stop | undefined;
}

/** KVM_SYSTEM_EVENT_* of linux/kvm.h. */
const SystemEvent = { SHUTDOWN: 1, RESET: 2 } as const;

const KICKED: Stop = { reason: "kicked" };
const RESET: Stop = { reason: "reset" };

/** Handles one exit. Undefined: run on. */
export function step(exit: ExitReason, page: RunPage, buses: Buses): Stop | undefined {
  switch (exit) {
    case ExitReason.IO:
      answerPorts(page, buses.ports);
      return buses.takeRequest();
    case ExitReason.MMIO:
      answerMemory(page, buses.memory);
      return buses.takeRequest();
    case ExitReason.INTR:
      return KICKED;
    case ExitReason.SHUTDOWN:
      // A triple fault resets a PC.
      return RESET;
    case ExitReason.SYSTEM_EVENT:
      if (page.systemEvent.type === SystemEvent.SHUTDOWN) return { reason: "power-off" };
      return page.systemEvent.type === SystemEvent.RESET ? RESET : crash(page);
    case ExitReason.DEBUG: {
      const { exception, pc, dr6 } = page.debug;
      return { reason: "debug", exception, pc, dr6 };
    }
    default:
      return crash(page);
  }
}

function crash(page: RunPage): Stop {
  return { reason: "crash", message: exitError(page).message };
}

function answerPorts({ io }: RunPage, ports: Bus): void {
  const { port, size, count } = io;
  if (io.isOut) {
    for (let index = 0; index < count; index++) ports.write(port, size, io.value(index));
  } else {
    for (let index = 0; index < count; index++) io.answer(ports.read(port, size), index);
  }
}

function answerMemory({ mmio }: RunPage, memory: Bus): void {
  const { address, length } = mmio;
  const lowLength = Math.min(length, 4);
  if (mmio.isWrite) {
    memory.write(address, lowLength, mmio.low);
    if (length > 4) memory.write(address + 4, length - 4, mmio.high);
  } else {
    const low = memory.read(address, lowLength);
    mmio.answer(low, length > 4 ? memory.read(address + 4, length - 4) : 0);
  }
}
