/** A small machine around a guest: memory, tables, one vCPU, and the words to say what the guest should do next. */

import {
  type CpuidEntry,
  ExitReason,
  exitError,
  exitReasonName,
  type GuestMemory,
  InternalError,
  type Regs,
  type Vcpu,
  type Vm,
} from "../src/index.ts";
import { CheckFailed, equal, hex, ok, Unsupported } from "./check.ts";
import type { Context } from "./context.ts";
import { setUp } from "./entry.ts";
import { type Exit, readExit, showExit } from "./exit.ts";
import { type AssembledGuest, bitsOf, type Mode } from "./guest.ts";
import { CODE, MEMORY_BYTES } from "./layout.ts";
import { PageTables, writeGate, writeGdt, writeTss } from "./tables.ts";

export interface MachineOptions {
  /** A further guest of the case, by name, instead of its guest. `false`: no code at all. */
  guest?: string | false;
  /** How much memory there is. */
  memoryBytes?: number;
  /** Memory to use instead of new memory; nothing is written to it. */
  memory?: GuestMemory;
  /** Interrupt chips: none, all in the hypervisor, or only the local APICs. */
  irqchip?: "none" | "kernel" | "split";
  /** Lays out the memory slots. Default: one slot, number 0, of all memory from address 0. */
  slots?: (vm: Vm) => void;
  /** What must happen before the first vCPU exists. */
  beforeVcpus?: (vm: Vm) => void;
  /** What the guest's cpuid says; default: all that the host supports. */
  cpuid?: readonly CpuidEntry[];
  /** How many vCPUs this thread gets itself: 1, or 0 for machines whose vCPUs are all on threads. */
  vcpus?: 0 | 1;
  /** Leaves the vCPU as KVM creates it. */
  untouched?: boolean;
}

/** Where old Intel processors want their spare pages (api.rst 4.34 and 4.42): out of every case's way. */
const TSS_ADDRESS = 0xfffbd000;
const IDENTITY_MAP_ADDRESS = 0xfffbc000;
const IOAPIC_PINS = 24;

export class Machine implements Disposable {
  readonly vm: Vm;
  readonly memory: GuestMemory;
  /** Guest memory; with the default slot, indexed by guest physical address. */
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly guest: AssembledGuest;
  readonly mode: Mode | undefined;
  readonly cpuid: readonly CpuidEntry[];
  readonly #context: Context;
  readonly #resources: DisposableStack;
  readonly #vcpu: Vcpu | undefined;
  readonly #pages: PageTables | undefined;
  #unknown: number | undefined;

  constructor(context: Context, options: MachineOptions) {
    this.#context = context;
    const name = options.guest === false ? undefined : options.guest;
    this.mode = options.guest === false ? undefined : context.modeOf(name);
    this.guest = this.mode === undefined ? { code: new Uint8Array(), labels: {} } : context.assembled(name);
    this.cpuid = options.cpuid ?? context.hypervisor.supportedCpuid();
    this.memory = options.memory ?? context.hypervisor.createMemory(options.memoryBytes ?? MEMORY_BYTES);
    this.bytes = new Uint8Array(this.memory.buffer, 0, this.memory.sizeBytes);
    this.view = new DataView(this.memory.buffer, 0, this.memory.sizeBytes);
    if (options.memory === undefined) this.#pages = this.#load();

    using undo = new DisposableStack();
    this.vm = undo.use(context.hypervisor.createVm(this.memory));
    this.vm.setTssAddress(TSS_ADDRESS);
    this.vm.setIdentityMapAddress(IDENTITY_MAP_ADDRESS);
    if (options.slots !== undefined) options.slots(this.vm);
    else this.setSlot();
    if (options.irqchip === "kernel") this.vm.createIrqchip();
    if (options.irqchip === "split") this.vm.enableSplitIrqchip(IOAPIC_PINS);
    options.beforeVcpus?.(this.vm);
    if (options.vcpus !== 0) {
      this.#vcpu = undo.use(this.vm.createVcpu(0));
      context.watch(this.#vcpu.kickHandle);
      setUp(this.#vcpu, { id: 0, mode: options.untouched ? undefined : this.mode, cpuid: this.cpuid });
    }
    this.#resources = undo.move();
  }

  get vcpu(): Vcpu {
    ok(this.#vcpu !== undefined, "this machine's vCPUs are on other threads");
    return this.#vcpu;
  }

  /** Long mode's page tables. */
  get pages(): PageTables {
    ok(this.#pages !== undefined, "this machine has no page tables");
    return this.#pages;
  }

  /** The default slot, with other flags. */
  setSlot(flags: { logDirtyPages?: boolean; readOnly?: boolean } = {}): void {
    const sizeBytes = this.bytes.length;
    this.vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes, memoryOffset: 0, ...flags });
  }

  /** The address of a label in the guest's source. */
  at(label: string): number {
    const address = this.guest.labels[label];
    ok(address !== undefined, `the guest has no label ${label}`);
    return address;
  }

  /** Lets a vector lead to a label. `dpl` 3: ring 3 may use it with int. */
  handle(vector: number, label: string, dpl: 0 | 3 = 0): void {
    ok(this.mode !== undefined, "a machine without a guest handles nothing");
    writeGate(this.view, bitsOf(this.mode), vector, this.at(label), dpl);
  }

  /**
   * Lets undefined instructions lead to a label, where the guest has a hlt. Where the host's kernel has to emulate an
   * instruction of ring 3 and does not know it, the guest gets a #UD; the case is skipped then, and names it.
   */
  handleUnknown(label: string): void {
    this.handle(6, label);
    this.#unknown = this.at(label);
  }

  /** Puts the vCPU at a label, in the mode that it began in. */
  reset(label: string): void {
    setUp(this.vcpu, { id: 0, mode: this.mode, rip: this.at(label) });
  }

  setRegs(change: Partial<Regs>): void {
    this.vcpu.setRegs({ ...this.vcpu.getRegs(), ...change });
  }

  u8(address: number): number {
    return this.view.getUint8(address);
  }
  u16(address: number): number {
    return this.view.getUint16(address, true);
  }
  u32(address: number): number {
    return this.view.getUint32(address, true);
  }
  u64(address: number): bigint {
    return this.view.getBigUint64(address, true);
  }

  /**
   * Runs until the next exit that is not `INTR`, which a run may always give once more than it was kicked. A guest that
   * takes too long, and one that KVM gives up on, end the case.
   */
  run(): ExitReason {
    for (;;) {
      const reason = this.vcpu.run();
      if (reason === ExitReason.INTERNAL_ERROR) this.#givenUp();
      if (reason !== ExitReason.INTR) return reason;
      if (this.#context.expired) {
        throw new CheckFailed(`the guest did not stop by itself: rip is ${hex(this.vcpu.getRegs().rip)}`);
      }
    }
  }

  /** Runs to the next exit as a record. */
  exit(): Exit {
    const exit = readExit(this.run(), this.vcpu.page);
    if (exit.reason === ExitReason.HLT && this.#unknown !== undefined) this.#checkUnknown(this.#unknown);
    return exit;
  }

  /** The next exit has this reason. */
  expect(reason: ExitReason): void {
    const exit = this.exit();
    if (exit.reason !== reason) throw this.#unexpected(exitReasonName(reason), exit);
  }

  /** The guest writes `value` to `port`. Its `size` is 1 byte unless said. */
  expectOut(port: number, value: number, size = 1): void {
    const exit = this.exit();
    const wanted: Exit = { reason: ExitReason.IO, out: true, port, size, values: [value] };
    if (exit.reason !== ExitReason.IO) throw this.#unexpected(showExit(wanted), exit);
    equal(exit, wanted, "the exit");
  }

  /** The guest reads `port` once; the next run answers it with `value`. */
  answerIn(port: number, value: number, size = 1): void {
    const exit = this.exit();
    const wanted: Exit = { reason: ExitReason.IO, out: false, port, size, values: [0] };
    if (exit.reason !== ExitReason.IO) throw this.#unexpected(showExit(wanted), exit);
    equal(exit, wanted, "the exit");
    this.vcpu.page.io.answer(value);
  }

  /** The guest writes `value` to an address without memory. */
  expectWrite(address: number, value: bigint | number, length: number): void {
    const exit = this.exit();
    const wanted: Exit = { reason: ExitReason.MMIO, write: true, address, length, value: BigInt(value) };
    if (exit.reason !== ExitReason.MMIO) throw this.#unexpected(showExit(wanted), exit);
    equal(exit, wanted, "the exit");
  }

  /** The guest reads an address without memory; the next run answers it with `value`. */
  answerRead(address: number, value: bigint | number, length: number): void {
    const exit = this.exit();
    const wanted: Exit = { reason: ExitReason.MMIO, write: false, address, length, value: 0n };
    if (exit.reason !== ExitReason.MMIO) throw this.#unexpected(showExit(wanted), exit);
    equal(exit, wanted, "the exit");
    const wide = BigInt(value);
    this.vcpu.page.mmio.answer(Number(wide & 0xffffffffn), Number(wide >> 32n));
  }

  [Symbol.dispose](): void {
    this.#resources.dispose();
  }

  /** Puts code and tables into fresh memory. */
  #load(): PageTables | undefined {
    this.bytes.set(this.guest.code, this.guest.code.length > 0 ? CODE : 0);
    if (this.mode === undefined || this.mode === "real") return undefined;
    const bits = this.mode === "protected" ? 32 : 64;
    writeGdt(this.view, bits);
    writeTss(this.view, bits);
    return bits === 64 ? new PageTables(this.view) : undefined;
  }

  #unexpected(wanted: string, exit: Exit): Error {
    const { rip, rsp } = this.vcpu.getRegs();
    return new CheckFailed(`expected ${wanted}, got ${showExit(exit)} at rip ${hex(rip)} (rsp ${hex(rsp)})`);
  }

  #checkUnknown(handler: number): void {
    const { rip, rsp } = this.vcpu.getRegs();
    if (!this.#context.host.interprets || rip !== BigInt(handler + 1)) return;
    const bytes = this.#sourceAt(Number(this.u64(Number(rsp))), 4);
    throw new Unsupported(`this host's kernel emulates some instructions of ring 3 and cannot emulate ${bytes}`);
  }

  /**
   * Where the host's kernel interprets ring 0 code, an instruction that it does not know is no fault of the interface:
   * the case is skipped and names it. It must be the guest's own code that rip is at; a guest that ran astray fails.
   */
  #givenUp(): never {
    const { page } = this.vcpu;
    const { rip } = this.vcpu.getRegs();
    const { cs } = this.vcpu.getSregs();
    const { suberror, instruction } = page.internal;
    const source = this.#sourceAt(Number(rip + cs.base), instruction.length || 8);
    if (this.#context.host.interprets && suberror === InternalError.EMULATION && source !== undefined) {
      throw new Unsupported(`this host's kernel interprets ring 0 and cannot emulate ${source}`);
    }
    throw new CheckFailed(`${exitError(page).message} (rip ${hex(rip)})`);
  }

  /** The guest's bytes at an address, if they are as they were assembled. */
  #sourceAt(address: number, length: number): string | undefined {
    const { code } = this.guest;
    const offset = address - CODE;
    if (offset < 0 || offset >= code.length) return undefined;
    const source = code.subarray(offset, offset + length);
    if (!source.every((byte, index) => this.bytes[address + index] === byte)) return undefined;
    return Array.from(source, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
  }
}
