/**
 * The contract: KVM's own interface in TypeScript. `/dev/kvm` implements it in `@lodge/kvm/linux`; nothing above this
 * interface knows which implementation it is on. Names and meanings are those of the kernel's Documentation/virt/kvm/api.rst, whose
 * sections the comments give.
 *
 * Threads: a `Hypervisor` and a `Vm` may be used by every thread; another thread gets at them by their handles, which
 * can be posted. A `Vcpu` belongs to the thread that created it. Whoever creates something closes it: vCPUs before
 * their VM.
 */

import type { Capability } from "./capability.ts";
import type { CpuidEntry, MsrEntry } from "./layout/registers.ts";
import type { GuestMemory } from "./memory.ts";
import type { Vm } from "./vm.ts";

export interface Hypervisor extends Disposable {
  /** Which implementation this is. */
  readonly kind: HypervisorKind;

  /** What the host can do: 0 for no, 1 for yes, or a number that the capability defines (4.4). */
  checkExtension(capability: Capability): number;

  /** The CPUID leaves that this host can give a guest (4.46). */
  supportedCpuid(): CpuidEntry[];
  /** Leaves of features that KVM emulates although the processor lacks them (4.88). */
  emulatedCpuid(): CpuidEntry[];

  /** The MSRs that a vCPU's state consists of (4.3). */
  msrIndices(): number[];
  /** The MSRs that describe the host's features (4.3). */
  featureMsrIndices(): number[];
  /** The values of feature MSRs (4.18). An MSR that is none is refused with its number. */
  readFeatureMsrs(indices: readonly number[]): MsrEntry[];

  /** Reserves memory for a machine: a multiple of 64 KiB. Nothing is used until it is touched. */
  createMemory(sizeBytes: number): GuestMemory;
  /** A new machine with this memory of {@link createMemory}, no slots and no vCPUs. Machines may share it. */
  createVm(memory: GuestMemory): Vm;
  /** A machine that another thread created. Closing it ends only this thread's use. */
  attachVm(handle: VmHandle): Vm;

  /** A counter that connects guests, devices and threads. */
  createNotifier(): Notifier;
  /** A notifier that another thread created. Closing it ends only this thread's use. */
  attachNotifier(handle: NotifierHandle): Notifier;

  /** The means to stop a vCPU from any thread. */
  attachKicker(handle: KickHandle): Kicker;
}

export type HypervisorKind = "kvm" | "soft";

/** A machine as a value that can be posted to other threads. Its content belongs to the implementation. */
export interface VmHandle {
  readonly kind: HypervisorKind;
  readonly memory: GuestMemory;
}

/** A notifier as a value that can be posted to other threads. */
export interface NotifierHandle {
  readonly kind: HypervisorKind;
  /** The eventfd that it is, where it is one: other programs may be given it. */
  readonly fd?: number;
}

/** A vCPU's kick as a value that can be posted to other threads. */
export interface KickHandle {
  readonly kind: HypervisorKind;
}

/**
 * A counter that one side bumps and another waits for: an eventfd on Linux, a shared word in software. A guest's write
 * can bump it without an exit ({@link Vm.assignIoeventfd}), and bumping it can interrupt a guest
 * ({@link Vm.assignIrqfd}).
 */
export interface Notifier extends Disposable {
  readonly handle: NotifierHandle;
  /** Adds 1. */
  signal(): void;
  /** What was added since the last take, 0 for nothing; never blocks. */
  take(): number;
  /** Calls back on this thread's event loop whenever something was added, having taken it. Disposing ends that. */
  watch(callback: (count: number) => void): Disposable;
  close(): void;
}

/** Stops one vCPU from any thread. */
export interface Kicker {
  /**
   * Makes the vCPU's current run, or its next one if it is not running, return `INTR`. Returns false when the vCPU is
   * closed. Write what the vCPU shall do where it looks before kicking; kicks may merge, and a run may return `INTR`
   * once more than kicked.
   */
  kick(): boolean;
}
