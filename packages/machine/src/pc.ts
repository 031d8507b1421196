/**
 * A PC: built from a description, run, and taken apart.
 *
 *     await using machine = await Pc.create({
 *       accelerator: "soft",
 *       memoryBytes: 512 * 2 ** 20,
 *       cpus: { count: 1 },
 *       kernel: await readFile("vmlinuz"),
 *       initrd: await readFile("initrd.img"),
 *       commandLine: "console=ttyS0",
 *       serial: [(bytes) => process.stdout.write(bytes)],
 *     });
 *     machine.start();
 *     const end = await machine.ended;          // { reason: "power-off" }, say
 *
 * `machine.serial[0].write(bytes)` is what is typed on COM1, `machine.pressPowerButton()` asks the guest to shut down.
 */

import { type GuestRam, MappedRam, type VirtioDevice } from "@lodge/devices";
import type { Uart16550 } from "@lodge/devices/vcpu-side";
import type { CpuidEntry, GuestMemory, Hypervisor, Notifier, Vm } from "@lodge/kvm";
import { randomBytes } from "@lodge/linux";
import { openHypervisor } from "./accelerator.ts";
import { SLOTS_EVENT } from "./acpi/hotplug.ts";
import { acpiTables } from "./acpi/tables.ts";
import { loadKernel } from "./boot/boot.ts";
import type { Entry } from "./boot/entry.ts";
import { Loader } from "./boot/loader.ts";
import { Chipset, type ChipsetHandle, createChipset } from "./chipset.ts";
import { type DebugExit, Debugging } from "./debugging.ts";
import { type ByteSink, checkDescription, type PcDescription } from "./description.ts";
import { MachineError } from "./errors.ts";
import { interruptLine, interruptRoutes } from "./interrupts.ts";
import { Boot, ECAM, highPciWindow, IDENTITY_MAP, TSS } from "./memory/address-map.ts";
import type { MachineMemory } from "./memory/backing.ts";
import { placeDeviceMemory } from "./memory/device-memory.ts";
import { layOutNodes } from "./memory/nodes.ts";
import { memoryMap, ramEnd, ramPieces } from "./memory/ram-layout.ts";
import { PciSlots } from "./pci/slots.ts";
import { SerialInput } from "./serial-input.ts";
import { CompilerThread } from "./vcpu/compiler-thread.ts";
import { apicId, cpuidOf, physicalAddressBits, type Topology } from "./vcpu/cpuid.ts";
import { sharedCpuid } from "./vcpu/model.ts";
import { type Registers, Wanted } from "./vcpu/protocol.ts";
import type { Stop } from "./vcpu/step.ts";
import { VcpuThread } from "./vcpu/thread.ts";

/** Why a machine does not run any more. */
export type PcEnd =
  /** The guest switched itself off. */
  | { readonly reason: "power-off" }
  /** The guest, or {@link Pc.reset}, asked for a reset. This PC is over; make another from the same description to go on. */
  | { readonly reason: "reset" }
  /** It wrote to the debug exit port; `status` is what QEMU would end with: `(value << 1) | 1`. */
  | { readonly reason: "debug-exit"; readonly status: number }
  /** A vCPU cannot go on: the hypervisor gave up on the guest, or something of ours failed. */
  | {
      readonly reason: "crash";
      readonly vcpu: number;
      readonly message: string;
      readonly registers: Registers | undefined;
    }
  /** {@link Pc.stop} was called. */
  | { readonly reason: "stopped" };

export interface PcEvents {
  /** The guest's kernel says that it has panicked. It goes on, mostly to halt or to reset. */
  panicked?: (crashLoaded: boolean) => void;
  /** A vCPU met what {@link Debugging.watch} set; the machine is paused. */
  debugged?: (exit: DebugExit) => void;
  /** A guest's driver broke the rules of a virtio device, which stands still until it is reset. */
  deviceFailed?: (reason: string) => void;
  /** The guest has let go of a device that {@link Pc.unplug} asked for; nothing of the machine uses it any more. */
  unplugged?: (device: VirtioDevice) => void;
}

type State = "created" | "running" | "pausing" | "paused" | "ending" | "ended";

export class Pc implements AsyncDisposable {
  /** What it was made from, but for what is in its memory now. */
  readonly description: Omit<PcDescription, "kernel" | "initrd" | "modules">;
  /** What is typed on the serial ports, by number. */
  readonly serial: readonly SerialInput[];
  /** The same of the PCI serial cards. */
  readonly serialCards: readonly SerialInput[];
  /** Resolves when the machine has come to its end; no vCPU runs then. */
  readonly ended: Promise<PcEnd>;
  /** For debuggers, while the machine is paused. */
  readonly debugging: Debugging;
  readonly #resources: AsyncDisposableStack;
  readonly #memory: GuestMemory;
  readonly #chipset: Chipset;
  readonly #control: Int32Array;
  readonly #exits: Float64Array;
  readonly #events: PcEvents;
  readonly #slots: PciSlots;
  readonly #end = Promise.withResolvers<PcEnd>();
  #vcpus: readonly VcpuThread[] = [];
  #state: State = "created";
  #clockTimer: NodeJS.Timeout | undefined;
  /** Set once it is known; the vCPUs are stopping. */
  #why: PcEnd | undefined;
  /** Who waits for all vCPUs to stand. */
  #standing: (() => void)[] = [];

  /**
   * Builds a machine that stands before its first instruction. Throws a `MachineError`, or a `KvmError` of the host, and
   * leaves nothing behind then.
   */
  static async create(description: PcDescription, events: PcEvents = {}): Promise<Pc> {
    checkDescription(description);
    const topology = description.cpus.topology ?? { sockets: description.cpus.count, cores: 1, threads: 1 };
    const apicIds = Array.from({ length: description.cpus.count }, (_, index) => apicId(index, topology));
    await using undo = new AsyncDisposableStack();
    // They load their code while everything else is made.
    const compiler = description.accelerator === "soft" ? undo.use(new CompilerThread(apicIds.length)) : undefined;
    const threads = apicIds.map((id, index) => {
      return new VcpuThread(id, description.accelerator, description.codeCache, compiler?.links[index]);
    });
    for (const thread of threads) undo.defer(() => thread.close());
    const hypervisor = undo.use(await openHypervisor(description.accelerator));
    const ramOnly = ramPieces(description.memoryBytes);
    const placed = placeDeviceMemory(description.virtio ?? [], ramOnly);
    // Plain memory is what the software processor has, which has no need of the system calls.
    const plain = hypervisor.kind === "soft" && description.memoryBacking === undefined;
    const { memory, start, shared, holder }: MachineMemory =
      plain && placed.length === 0
        ? { memory: hypervisor.createMemory(description.memoryBytes), start: 0 }
        : (await import("./memory/backing.ts")).makeMemory(hypervisor, ramOnly, placed, description.memoryBacking);
    if (holder !== undefined) undo.use(holder);
    const pieces = [...ramOnly, ...placed.map(({ piece }) => piece)].map((piece) => {
      return { ...piece, offset: start + piece.offset };
    });
    const vm = undo.use(hypervisor.createVm(memory));
    prepareVm(vm);
    for (const [slot, { gpa, sizeBytes, offset }] of pieces.entries()) {
      vm.setMemorySlot({ slot, guestAddress: gpa, sizeBytes, memoryOffset: offset });
    }
    const ram = new MappedRam(memory.buffer, pieces, (gpa, length) => vm.memoryWritten(gpa, length), shared);
    // Elsewhere memory is of huge pages, or what somebody asked for, and a kernel's file would not be that.
    const mapped = plain ? ram.mapped.bind(ram) : undefined;
    // A file that the user names may have been another machine's.
    const loader = new Loader(ram, { mapped, isFresh: description.memoryBacking?.file === undefined });
    const cpuid = await sharedCpuid(hypervisor, description.cpus.model);
    const acpi = acpiTables({
      apicIds,
      serialPorts: description.serial?.length === 2 ? 2 : 1,
      highPciWindow: highPciWindow(ramEnd(pieces), physicalAddressBits(cpuid)),
      ...(description.nodes === undefined ? {} : { nodes: layOutNodes(description.nodes, ramOnly) }),
    });
    loader.put(Boot.ACPI, acpi.bytes, "ACPI's tables");
    loader.put(acpi.generationId, randomBytes(16), "the VM generation id");
    const entry = await loadKernel(loader, {
      ...description,
      commandLine: description.commandLine ?? "",
      memoryMap: memoryMap(ramOnly, [ECAM]),
      lowRamEnd: ramOnly[0]!.sizeBytes,
      rsdp: Boot.ACPI,
    });
    const chipset = createChipset({
      cpus: description.cpus.count,
      ramBytes: description.memoryBytes,
      serialPorts: description.serial?.length === 2 ? 2 : 1,
      ...(description.debugExitPort === undefined ? {} : { debugExitPort: description.debugExitPort }),
      testDevice: description.testDevice ?? false,
    });
    const wakeHost = undo.use(hypervisor.createNotifier());
    const slots = undo.use(
      new PciSlots(description.virtio ?? [], description.serialCards?.length ?? 0, {
        hypervisor,
        vm,
        ram,
        failed: (reason) => events.deviceFailed?.(reason),
        tellGuest: () => machine.#chipset.powerManagement.raise(SLOTS_EVENT),
        wakeHost: () => wakeHost.signal(),
        unplugged: (device) => events.unplugged?.(device),
      }),
    );
    const parts = { vm, memory, ram, chipset, slots, wakeHost, description, events };
    const machine: Pc = new Pc(parts, undo);
    await machine.#startVcpus(hypervisor, parts, { entry, cpuid, topology, threads }, undo);
    machine.#resources.use(undo.move());
    return machine;
  }

  private constructor(parts: Parts, undo: AsyncDisposableStack) {
    const { vm, memory, ram, chipset, slots, wakeHost, description, events } = parts;
    const { kernel: _kernel, initrd: _initrd, modules: _modules, ...rest } = description;
    this.description = rest;
    this.#memory = memory;
    this.debugging = new Debugging(ram, () => this.#vcpus);
    this.ended = this.#end.promise;
    this.#resources = new AsyncDisposableStack();
    this.#events = events;
    this.#slots = slots;
    this.#control = new Int32Array(new SharedArrayBuffer(4));
    this.#exits = new Float64Array(new SharedArrayBuffer(8 * description.cpus.count));
    this.#chipset = new Chipset(chipset, {
      line: (gsi) => interruptLine(vm, gsi),
      wakeHost: () => wakeHost.signal(),
      panicked: () => {},
    });
    this.serial = this.#chipset.serial.map((uart) => new SerialInput(uart));
    this.serialCards = slots.serialCards.map(({ uart }) => new SerialInput(uart));
    undo.use(wakeHost.watch(() => this.#serveDevices()));
  }

  async #startVcpus(
    hypervisor: Hypervisor,
    parts: Parts,
    { entry, cpuid, topology, threads }: Processors,
    undo: AsyncDisposableStack,
  ): Promise<void> {
    for (const [index, thread] of threads.entries()) {
      await thread.open(
        hypervisor,
        {
          vm: parts.vm.handle,
          id: thread.id,
          cpuid: cpuidOf(cpuid, thread.id, topology),
          entry: index === 0 ? entry : undefined,
          affinity: parts.description.cpus.affinity?.[index],
          chipset: parts.chipset,
          pci: parts.slots.handle,
          wakeHost: parts.wakeHost.handle,
          control: this.#control.buffer as SharedArrayBuffer,
          exits: { counters: this.#exits.buffer as SharedArrayBuffer, index },
        },
        {
          stopped: (stop) => this.#stopped(thread, stop),
          panicked: (crashLoaded) => this.#events.panicked?.(crashLoaded),
          released: (slot) => void this.#slots.released(slot, thread),
        },
      );
      // Before the machine's memory goes.
      undo.defer(() => thread.close());
    }
    this.#vcpus = threads;
    parts.slots.attach(threads);
  }

  /** The vCPUs' threads, by the numbers that the host knows them by (/proc/PID/task). */
  get threadIds(): readonly number[] {
    return this.#vcpus.map(({ threadId }) => threadId);
  }

  get state(): State {
    return this.#state;
  }

  /**
   * Lets the machine run, from its first instruction on or from where it was paused. With `only`, that vCPU alone, for a
   * debugger's step.
   */
  start(only?: number): void {
    if (this.#state !== "created" && this.#state !== "paused") throw this.#wrongState("started");
    if (this.#state === "paused") for (const port of this.#slots.ports) port.resume();
    this.#state = "running";
    Atomics.store(this.#control, 0, Wanted.RUNNING);
    for (const [index, vcpu] of this.#vcpus.entries()) if (only === undefined || only === index) vcpu.run();
  }

  /** The same as {@link start}, for a machine that was paused. */
  resume(): void {
    this.start();
  }

  /** Stops all vCPUs between two instructions; resolves when they stand. A machine that comes to its end meanwhile stays so. */
  async pause(): Promise<void> {
    if (this.#state !== "running") throw this.#wrongState("paused");
    this.#state = "pausing";
    await this.#halt();
    await Promise.all(this.#slots.ports.map((port) => port.pause()));
    if (this.#state === "pausing") this.#state = "paused";
  }

  /** Presses the reset button, which is one of the machine's ends. */
  reset(): void {
    void this.#finish({ reason: "reset" });
  }

  /** Ends the machine as if its plug were pulled, and frees what it holds. */
  async stop(): Promise<void> {
    if (this.#state !== "ended") await this.#finish({ reason: "stopped" });
    if (this.#resources.disposed) return;
    await this.#resources.disposeAsync();
    // The engine would keep it until it happens to collect garbage, and a machine that is reset often would fill the host.
    const { releaseMemory } = await import("./memory/backing.ts");
    releaseMemory(this.#memory);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  /** Tells the guest by ACPI that its power button was pressed; most guests shut down then. */
  pressPowerButton(): void {
    this.#chipset.powerManagement.pressPowerButton();
  }

  /** Plugs in a device, of which the guest is told by ACPI: it has to have a driver, and PCI hotplug. The result is its slot. */
  async plug(device: VirtioDevice): Promise<number> {
    if (this.#why !== undefined) throw this.#wrongState("changed");
    if (device.memory !== undefined) {
      const { name } = device.memory;
      throw new MachineError(
        "MACHINE_STATE",
        `persistent memory (${name}) is a machine's from its start on, or not at all`,
      );
    }
    const { slot, port } = this.#slots.plug(device);
    if (this.#state === "paused" || this.#state === "pausing") await port.pause();
    return slot;
  }

  /** Asks the guest to let go of a device; {@link PcEvents.unplugged} tells when it has, which may be never. */
  unplug(device: VirtioDevice): void {
    if (this.#why !== undefined) throw this.#wrongState("changed");
    this.#slots.askOut(device);
  }

  /** How often each vCPU has left the guest for a device, or because it was kicked. */
  exits(): number[] {
    return [...this.#exits];
  }

  /** Registers of all vCPUs of a paused machine. */
  async registers(): Promise<Registers[]> {
    if (this.#state !== "paused") throw this.#wrongState("looked at");
    return Promise.all(this.#vcpus.map((vcpu) => vcpu.registers()));
  }

  #stopped(vcpu: VcpuThread, stop: Stop): void {
    if (stop.reason === "debug") void this.#debugged(vcpu, stop);
    else if (stop.reason !== "kicked") void this.#finish(endOf(vcpu, stop));
    this.#standingChanged();
  }

  /** The first vCPU that stops for a debugger stops all; others that do so meanwhile meet their breakpoint again. */
  async #debugged(vcpu: VcpuThread, { exception, pc, dr6 }: Extract<Stop, { reason: "debug" }>): Promise<void> {
    if (this.#state !== "running") return;
    await this.pause();
    if (this.state !== "paused") return;
    this.#events.debugged?.({ vcpu: this.#vcpus.indexOf(vcpu), exception, pc, dr6 });
  }

  /** Brings all vCPUs to a stand, whoever began it. */
  async #halt(): Promise<void> {
    Atomics.store(this.#control, 0, Wanted.STOPPED);
    for (const vcpu of this.#vcpus) vcpu.kick();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#standing.push(resolve);
    this.#standingChanged();
    await promise;
  }

  #standingChanged(): void {
    if (this.#vcpus.some((vcpu) => vcpu.isRunning)) return;
    for (const resolve of this.#standing.splice(0)) resolve();
  }

  /** The first reason to end is the machine's end. */
  async #finish(end: PcEnd): Promise<void> {
    if (this.#why !== undefined) {
      await this.ended;
      return;
    }
    this.#why = end;
    this.#state = "ending";
    await this.#halt();
    this.#serveDevices();
    const crashed = end.reason === "crash" ? this.#vcpus.find(({ id }) => id === end.vcpu) : undefined;
    const registers = await crashed?.registers().catch(() => undefined);
    this.#state = "ended";
    clearTimeout(this.#clockTimer);
    this.#end.resolve(end.reason === "crash" ? { ...end, registers } : end);
  }

  /** Takes what devices have for the host. */
  #serveDevices(): void {
    const { serial, serialCards, debugConsole } = this.description;
    for (const [index, uart] of this.#chipset.serial.entries()) serve(uart, serial?.[index], this.serial[index]!);
    for (const [index, { uart }] of this.#slots.serialCards.entries()) {
      serve(uart, serialCards?.[index], this.serialCards[index]!);
    }
    this.#slots.serve();
    const debug = this.#chipset.debugConsole.take();
    if (debug.length > 0) debugConsole?.(debug);
    this.#armClock();
  }

  /** The real-time clock interrupts on seconds and alarms, while the guest wants that. */
  #armClock(): void {
    clearTimeout(this.#clockTimer);
    const waitMs = this.#state === "ended" ? undefined : this.#chipset.cmos.nextEvent();
    if (waitMs === undefined) return;
    this.#clockTimer = setTimeout(() => {
      this.#chipset.cmos.expire();
      this.#armClock();
    }, waitMs);
  }

  #wrongState(what: string): MachineError {
    return new MachineError("MACHINE_STATE", `a machine that is ${this.#state} cannot be ${what}`);
  }
}

interface Parts {
  readonly vm: Vm;
  readonly memory: GuestMemory;
  readonly ram: GuestRam;
  readonly chipset: ChipsetHandle;
  readonly slots: PciSlots;
  readonly wakeHost: Notifier;
  readonly description: PcDescription;
  readonly events: PcEvents;
}

/** What the vCPUs begin with. */
interface Processors {
  /** The first one's. */
  readonly entry: Entry;
  readonly cpuid: readonly CpuidEntry[];
  readonly topology: Topology;
  readonly threads: readonly VcpuThread[];
}

function prepareVm(vm: Vm): void {
  vm.setTssAddress(TSS);
  vm.setIdentityMapAddress(IDENTITY_MAP);
  vm.createIrqchip();
  vm.createPit({ speaker: true });
  vm.setGsiRouting(interruptRoutes());
}

function endOf(vcpu: VcpuThread, stop: Stop): PcEnd {
  switch (stop.reason) {
    case "crash":
      return { reason: "crash", vcpu: vcpu.id, message: stop.message, registers: undefined };
    case "debug":
    case "kicked":
      // These end no machine.
      return { reason: "crash", vcpu: vcpu.id, message: `it stopped with ${stop.reason}`, registers: undefined };
    default:
      return stop;
  }
}

/** Takes what a serial port has sent, and gives it what is typed. */
function serve(uart: Uart16550, sink: ByteSink | undefined, input: SerialInput): void {
  const bytes = uart.transmitted();
  if (bytes.length > 0) sink?.(bytes);
  input.pump();
}
