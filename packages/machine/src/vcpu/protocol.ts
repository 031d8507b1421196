/** What is said between a machine and the threads of its vCPUs. A thread answers each request with one reply, in order. */

import type { MessagePort } from "node:worker_threads";
import type {
  CpuidEntry,
  Fpu,
  GuestDebug,
  HypervisorKind,
  KickHandle,
  NotifierHandle,
  Regs,
  Sregs,
  Translation,
  VmHandle,
} from "@lodge/kvm";
import type { Entry } from "../boot/entry.ts";
import type { ChipsetHandle } from "../chipset.ts";
import type { PciHandle, Plug } from "../pci/root.ts";
import type { CompilerLink } from "./compiler-link.ts";
import type { Stop } from "./step.ts";

/** What a thread begins with, before there is a machine for its vCPU. */
export interface ThreadSetup {
  /** Where its {@link ThreadPurpose} comes from, once. */
  readonly purpose: MessagePort;
  /** Where {@link Plug}s come from, which a thread takes between exits, as it never waits for messages while its vCPU runs. */
  readonly plugs: MessagePort;
}

/** What a thread has to know before it opens its hypervisor. */
export interface ThreadPurpose {
  readonly accelerator: HypervisorKind;
  /** Where the software processor keeps what it made of guests' code, if it does. */
  readonly codeCache: string | undefined;
  /** The thread that compiles for the software processor's vCPU. */
  readonly compiler: CompilerLink | undefined;
}

/** Which vCPU a thread is to make. */
export interface VcpuSetup {
  readonly vm: VmHandle;
  /** The local APIC's id. */
  readonly id: number;
  readonly cpuid: readonly CpuidEntry[];
  /** Undefined: it waits for the first vCPU to start it. */
  readonly entry: Entry | undefined;
  /** The host processors that the thread may run on; undefined for all. */
  readonly affinity: readonly number[] | undefined;
  readonly chipset: ChipsetHandle;
  readonly pci: PciHandle;
  /** Signalled when a device has something for the I/O thread. */
  readonly wakeHost: NotifierHandle;
  /** Word 0: whether the machine wants its vCPUs to run ({@link Wanted}). */
  readonly control: SharedArrayBuffer;
  /** Where this vCPU counts its exits: a float64 of its own. */
  readonly exits: { readonly counters: SharedArrayBuffer; readonly index: number };
}

/** What the machine wants of all its vCPUs; they look after each kick. */
export const Wanted = { STOPPED: 0, RUNNING: 1 } as const;

export type Request =
  /** The first one; the others come when it was answered. */
  | { readonly do: "open"; readonly setup: VcpuSetup }
  | { readonly do: "run" }
  | { readonly do: "registers" }
  | { readonly do: "set-registers"; readonly registers: Registers }
  | { readonly do: "translate"; readonly linearAddress: bigint }
  | { readonly do: "watch"; readonly debug: GuestDebug }
  | { readonly do: "close" };

export interface Registers {
  readonly regs: Regs;
  readonly sregs: Sregs;
  /** With MXCSR, which `KVM_GET_FPU` leaves out. */
  readonly fpu: Fpu;
}

export type Message =
  /** The answer to `open`. `threadId` is the host's, as in /proc/PID/task. */
  | { readonly type: "ready"; readonly kick: KickHandle; readonly threadId: number }
  /** The answer to `run`. */
  | { readonly type: "stopped"; readonly stop: Stop }
  | { readonly type: "registers"; readonly registers: Registers }
  | { readonly type: "translation"; readonly translation: Translation }
  /** The answer to `set-registers` and `watch`. */
  | { readonly type: "done" }
  /** It has taken a {@link Plug} that empties a slot. */
  | { readonly type: "released"; readonly slot: number }
  /** While it runs: it has collected garbage, and freed memory that the C library may keep. */
  | { readonly type: "collected" }
  /** While it runs: the guest's kernel has panicked. */
  | { readonly type: "panicked"; readonly crashLoaded: boolean }
  /** Something of ours went wrong: what an exception says. */
  | { readonly type: "failed"; readonly message: string };
