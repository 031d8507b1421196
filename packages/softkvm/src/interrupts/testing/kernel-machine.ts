/** KVM's own interrupt hardware, with a tiny guest that does what a test lists. */

import {
  Cr4,
  ExitReason,
  exitError,
  flatProtectedMode,
  type Hypervisor,
  Irqchip,
  type Vcpu,
  type Vm,
} from "@lodge/kvm";
import { Reg } from "../lapic-registers.ts";
import type { ApicFeatures } from "../vcpu-interrupts.ts";
import { FAULTED, isGuests, type Operation, type Snapshot, type Subject, serve, set, TAKEN } from "./operations.ts";

const MEMORY = 1 << 20;
const GDT = 0x1000;
const IDT = 0x2000;
const STUBS = 0x4000;
const STACK = 0xf000;
const CODE = 0x10000;
const LOG = 0x80000;
const STUB_BYTES = 16;
/** A port that nothing in KVM answers. */
const DONE = 0xf4;
/** Another, whose exit makes KVM look for interrupts: a host that interprets kernels does not between instructions. */
const WINDOW = 0xf5;
const GENERAL_PROTECTION = 13;

export class KernelMachine implements Subject {
  readonly vm: Vm;
  readonly vcpus: Vcpu[] = [];
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  constructor(hypervisor: Hypervisor, processors = 2, options: { split?: number; pit?: boolean } = {}) {
    const memory = hypervisor.createMemory(MEMORY);
    this.#bytes = new Uint8Array(memory.buffer, 0, MEMORY);
    this.#view = new DataView(memory.buffer, 0, MEMORY);
    this.vm = hypervisor.createVm(memory);
    this.vm.setTssAddress(0xfffbd000);
    if (options.split === undefined) this.vm.createIrqchip();
    else this.vm.enableSplitIrqchip(options.split);
    if (options.pit) this.vm.createPit({ speaker: true });
    this.vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: MEMORY, memoryOffset: 0 });
    for (let id = 0; id < processors; id++) {
      const vcpu = this.vm.createVcpu(id);
      vcpu.setCpuid(hypervisor.supportedCpuid());
      this.vcpus.push(vcpu);
    }
    this.#writeTables();
    const sregs = flatProtectedMode(this.vcpus[0]!.getSregs());
    this.vcpus[0]!.setSregs({
      ...sregs,
      cr4: Cr4.OSFXSR,
      gdt: { ...sregs.gdt, base: BigInt(GDT), limit: 0x17 },
      idt: { ...sregs.idt, base: BigInt(IDT), limit: 0x7ff },
    });
  }

  perform(operations: readonly Operation[]): Snapshot {
    const statuses: number[] = [];
    const log: number[] = [];
    let own: Operation[] = [];
    const runOwn = (): void => {
      if (own.length > 0) log.push(...this.#run(own));
      own = [];
    };
    for (const operation of operations) {
      if (isGuests(operation)) {
        own.push(operation);
        continue;
      }
      runOwn();
      this.#fromOutside(operation, statuses);
    }
    runOwn();
    return {
      first: this.vm.getPic(Irqchip.PIC_MASTER),
      second: this.vm.getPic(Irqchip.PIC_SLAVE),
      ioapic: this.vm.getIoapic(),
      lapics: this.vcpus.map((vcpu) => vcpu.getLapic()),
      statuses,
      log,
    };
  }

  [Symbol.dispose](): void {
    for (const vcpu of this.vcpus) vcpu.close();
    this.vm.close();
  }

  #fromOutside(operation: Operation, statuses: number[]): void {
    const vcpu = this.vcpus["cpu" in operation ? operation.cpu : 0]!;
    switch (operation.do) {
      case "line":
        statuses.push(this.vm.setIrqLine(operation.gsi, operation.high));
        return;
      case "msi":
        statuses.push(
          this.vm.signalMsi({ addressLo: operation.address, addressHi: 0, data: operation.data, flags: 0, devid: 0 }),
        );
        return;
      case "serve":
        vcpu.setLapic(serve(vcpu.getLapic(), operation));
        return;
      case "set":
        vcpu.setLapic(set(vcpu.getLapic(), operation));
        return;
      case "base":
        vcpu.setSregs({ ...vcpu.getSregs(), apicBase: BigInt(operation.low) });
        return;
      case "routes":
        this.vm.setGsiRouting(operation.routes);
        return;
      case "pic":
        this.vm.setPic(operation.chip, operation.state);
        return;
      case "ioapic":
        this.vm.setIoapic(operation.state);
        return;
      default:
        throw new RangeError(`${operation.do} is the guest's`);
    }
  }

  #run(operations: readonly Operation[]): number[] {
    const code = operations.flatMap(assemble);
    // mov al, 0; out DONE, al
    this.#bytes.set([...code, 0xb0, 0x00, 0xe6, DONE], CODE);
    const vcpu = this.vcpus[0]!;
    vcpu.setRegs({
      ...vcpu.getRegs(),
      rip: BigInt(CODE),
      rsp: BigInt(STACK),
      rdi: BigInt(LOG),
      rflags: 2n,
    });
    do {
      if (vcpu.run() !== ExitReason.IO) throw exitError(vcpu.page);
    } while (vcpu.page.io.port === WINDOW);
    vcpu.completeExit();
    const end = Number(vcpu.getRegs().rdi);
    return Array.from({ length: (end - LOG) / 4 }, (_, index) => this.#view.getUint32(LOG + 4 * index, true));
  }

  /** Flat segments, and 256 gates to stubs that log their vector. */
  #writeTables(): void {
    this.#view.setBigUint64(GDT + 8, 0x00cf9b000000ffffn, true);
    this.#view.setBigUint64(GDT + 16, 0x00cf93000000ffffn, true);
    const common = STUBS + 256 * STUB_BYTES;
    for (let vector = 0; vector < 256; vector++) {
      const stub = STUBS + vector * STUB_BYTES;
      this.#view.setUint32(IDT + 8 * vector, (0x08 << 16) | (stub & 0xffff), true);
      this.#view.setUint32(IDT + 8 * vector + 4, (stub & 0xffff0000) | 0x8e00, true);
      const next = stub + 10;
      // mov eax, TAKEN | vector; jmp common
      this.#bytes.set([0xb8, ...dword(TAKEN | vector), 0xe9, ...dword(common - next)], stub);
    }
    // stosd; retf 4: what interprets kernels here knows no iret. Interrupts stay off: a window is for one.
    this.#bytes.set([0xab, 0xca, 4, 0], common);
    // add esp, 4; add dword [esp], 2; mov eax, FAULTED; mov edx, eax; mov ebx, eax; retf 4
    this.#bytes.set(
      [0x83, 0xc4, 4, 0x83, 0x04, 0x24, 2, 0xb8, ...dword(FAULTED), 0x89, 0xc2, 0x89, 0xc3, 0xca, 4, 0],
      common + 0x20,
    );
    const fault = common + 0x20;
    this.#view.setUint32(IDT + 8 * GENERAL_PROTECTION, (0x08 << 16) | (fault & 0xffff), true);
  }
}

/** What a processor of this host's kind makes of its local APIC. */
export function apicFeatures(hypervisor: Hypervisor): ApicFeatures {
  const leaves = hypervisor.supportedCpuid();
  const ecx = leaves.find((leaf) => leaf.function === 1)?.ecx ?? 0;
  const sizes = leaves.find((leaf) => leaf.function === 0x80000008)?.eax ?? 36;
  return { x2apic: (ecx & (1 << 21)) !== 0, tscDeadline: (ecx & (1 << 24)) !== 0, physicalAddressBits: sizes & 0xff };
}

/**
 * Whether this host ends an interrupt of the local APIC when the guest takes it, before any EOI, as KVM's module for
 * hosts without virtualization of their own (kvm_pvm) does. The kernel's others leave it to the guest.
 */
export function endsWhatItDelivers(hypervisor: Hypervisor): boolean {
  using machine = new KernelMachine(hypervisor);
  const apic = 0xfee00000;
  const { log } = machine.perform([
    { do: "store", address: apic + Reg.SVR, value: 0x1ff },
    { do: "store", address: apic + Reg.ICR, value: 0x40040 },
    { do: "window" },
    { do: "load", address: apic + Reg.ISR + 0x20 },
  ]);
  return log[1] === 0;
}

/**
 * Whether this host makes the set of vectors whose ends the IOAPIC hears of anew only when it enters the guest, and not
 * between instructions that it interprets: a level that is being served goes to a pin of the IOAPIC and is ended at once.
 */
export function followsRoutesLate(hypervisor: Hypervisor): boolean {
  using machine = new KernelMachine(hypervisor);
  const ioapic = 0xfec00000;
  const pin = 2;
  const write = (index: number, value: number): Operation[] => [
    { do: "store", address: ioapic, value: index },
    { do: "store", address: ioapic + 0x10, value },
  ];
  const remoteIrr = 1 << 14;
  const level = 1 << 15;
  const { ioapic: state } = machine.perform([
    { do: "set", cpu: 0, offset: Reg.SVR, value: 0x1ff },
    ...write(0x10 + 2 * pin, level | 0x50),
    { do: "line", gsi: pin, high: true },
    { do: "line", gsi: pin, high: false },
    { do: "serve", vector: 0x40, level: true, waits: false },
    ...write(0x10 + 2 * pin, level | 0x40),
    { do: "store", address: 0xfee00000 + Reg.EOI, value: 0 },
  ]);
  return (Number(state.redirtbl[pin]) & remoteIrr) !== 0;
}

function dword(value: number): number[] {
  return [value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, (value >> 24) & 0xff];
}

/** 32-bit code; results go where edi points. */
function assemble(operation: Operation): number[] {
  switch (operation.do) {
    case "out": // mov edx, port; mov eax, value; out dx, al
      return [0xba, ...dword(operation.port), 0xb8, ...dword(operation.value), 0xee];
    case "in": // mov edx, port; xor eax, eax; in al, dx; stosd
      return [0xba, ...dword(operation.port), 0x31, 0xc0, 0xec, 0xab];
    case "store": // mov eax, value; mov [address], eax
      return [0xb8, ...dword(operation.value), 0xa3, ...dword(operation.address)];
    case "load": // mov eax, [address]; stosd
      return [0xa1, ...dword(operation.address), 0xab];
    case "wrmsr": // mov ecx, index; mov eax, low; mov edx, high; xor ebx, ebx; wrmsr; mov eax, ebx; stosd
      return [
        ...[0xb9, ...dword(operation.index), 0xb8, ...dword(operation.low), 0xba, ...dword(operation.high)],
        ...[0x31, 0xdb, 0x0f, 0x30, 0x89, 0xd8, 0xab],
      ];
    case "rdmsr": // mov ecx, index; rdmsr; stosd; mov eax, edx; stosd
      return [0xb9, ...dword(operation.index), 0x0f, 0x32, 0xab, 0x89, 0xd0, 0xab];
    case "window": // sti; nop; out WINDOW, al; cli
      return [0xfb, 0x90, 0xe6, WINDOW, 0xfa];
    default:
      throw new RangeError(`${operation.do} is not the guest's`);
  }
}
