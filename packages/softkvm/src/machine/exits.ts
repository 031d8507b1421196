/** Exits as the monitor finds them in the run page, and its answers. */

import { ExitReason, InternalError, Run, RunExit, writeNumber64 } from "@lodge/kvm";
import { LapicMsr } from "../interrupts/index.ts";
import { Bus } from "../mmu/mmio.ts";
import type { HypercallRequest } from "./hypercalls.ts";
import type { SoftVcpu } from "./vcpu.ts";

const UNION = Run.offset.exit;
/** Port data is on the page behind the run page. */
const PORT_DATA = 4096;
/** KVM_EXIT_HYPERCALL_LONG_MODE. */
const LONG_MODE = 1n;

export class ExitWriter {
  readonly #vcpu: SoftVcpu;
  readonly #view: DataView;

  constructor(vcpu: SoftVcpu) {
    this.#vcpu = vcpu;
    this.#view = vcpu.page.view;
  }

  /** Takes what the monitor answered to the last exit. */
  takeAnswer(): void {
    const { mmio } = this.#vcpu.core;
    const { pending } = mmio;
    if (pending !== undefined) {
      if (!pending.isWrite) {
        const from = pending.bus === Bus.PORT ? PORT_DATA : UNION + RunExit.mmio.offset.data;
        for (let index = 0; index < pending.data.length; index++) {
          pending.data[index] = this.#view.getUint8(from + index);
        }
      }
      mmio.answered();
    }
    // Of the exits that are many, none makes a bigint: not here, and not below.
    const { hypercalls, msrs, page } = this.#vcpu;
    if (hypercalls.request !== undefined) {
      hypercalls.takeAnswer(this.#view.getBigUint64(UNION + RunExit.hypercall.offset.ret, true));
    }
    if (msrs.request !== undefined) {
      msrs.takeAnswer(page.msr.data, this.#view.getUint8(UNION + RunExit.msr.offset.error) !== 0);
    }
  }

  /** Writes what the vCPU stopped for. */
  write(reason: ExitReason): void {
    const vcpu = this.#vcpu;
    const view = this.#view;
    const { core } = vcpu;
    view.setUint32(Run.offset.exitReason, reason, true);
    const window = core.isInterruptible && core.processor.events.interrupt < 0;
    view.setUint8(Run.offset.readyForInterruptInjection, window ? 1 : 0);
    view.setUint8(Run.offset.ifFlag, core.processor.systemFlags & 0x200 ? 1 : 0);
    writeNumber64(view, Run.offset.cr8, vcpu.interrupts.cr8);
    this.#writeApicBase();
    switch (reason) {
      case ExitReason.IO:
        this.#writeIo();
        break;
      case ExitReason.MMIO:
        this.#writeMmio();
        break;
      case ExitReason.DEBUG: {
        const at = RunExit.debug.offset;
        const { exception, pc, dr6 } = core.debug.exit;
        view.setUint32(UNION + at.exception, exception, true);
        view.setBigUint64(UNION + at.pc, pc, true);
        view.setBigUint64(UNION + at.dr6, dr6, true);
        view.setBigUint64(UNION + at.dr7, vcpu.guestDebug?.debugreg[7] ?? 0n, true);
        break;
      }
      case ExitReason.X86_RDMSR:
      case ExitReason.X86_WRMSR: {
        const at = RunExit.msr.offset;
        const { index, data, reason: why } = vcpu.msrs.request!;
        view.setUint8(UNION + at.error, 0);
        view.setUint32(UNION + at.reason, why, true);
        view.setUint32(UNION + at.index, index, true);
        view.setBigUint64(UNION + at.data, data, true);
        break;
      }
      case ExitReason.HYPERCALL:
        this.#writeHypercall(vcpu.hypercalls.request!);
        break;
      case ExitReason.INTERNAL_ERROR:
        view.setUint32(UNION + RunExit.internal.offset.suberror, InternalError.EMULATION, true);
        view.setUint32(UNION + RunExit.internal.offset.ndata, 0, true);
        break;
      default:
        break;
    }
  }

  #writeApicBase(): void {
    const { interrupts, vm, core } = this.#vcpu;
    if (vm.interrupts.hasLocalApics) {
      this.#view.setUint32(Run.offset.apicBase, interrupts.readMsr(LapicMsr.APIC_BASE), true);
      this.#view.setUint32(Run.offset.apicBase + 4, interrupts.msrHigh, true);
    } else this.#view.setBigUint64(Run.offset.apicBase, core.processor.hooks.readApicBase(), true);
  }

  #writeIo(): void {
    const { pending } = this.#vcpu.core.mmio;
    const view = this.#view;
    const at = RunExit.io.offset;
    if (pending === undefined) return;
    view.setUint8(UNION + at.direction, pending.isWrite ? 1 : 0);
    view.setUint8(UNION + at.size, pending.size);
    view.setUint16(UNION + at.port, pending.address, true);
    view.setUint32(UNION + at.count, pending.count, true);
    writeNumber64(view, UNION + at.dataOffset, PORT_DATA);
    this.#copyOut(PORT_DATA, pending.data, pending.isWrite);
  }

  #writeMmio(): void {
    const { pending } = this.#vcpu.core.mmio;
    const view = this.#view;
    const at = RunExit.mmio.offset;
    if (pending === undefined) return;
    writeNumber64(view, UNION + at.physAddr, pending.address);
    view.setUint32(UNION + at.len, pending.size, true);
    view.setUint8(UNION + at.isWrite, pending.isWrite ? 1 : 0);
    this.#copyOut(UNION + at.data, pending.data, pending.isWrite);
  }

  #writeHypercall(request: HypercallRequest): void {
    RunExit.hypercall.write(this.#view, UNION, {
      nr: BigInt(request.number),
      args: new Uint8Array(BigUint64Array.from([...request.arguments, 0n, 0n, 0n]).buffer),
      ret: 0n,
      flags: request.is64Bit ? LONG_MODE : 0n,
    });
  }

  /** A read leaves zeros for the monitor to fill. */
  #copyOut(to: number, data: Uint8Array, isWrite: boolean): void {
    for (let index = 0; index < data.length; index++) this.#view.setUint8(to + index, isWrite ? data[index]! : 0);
  }
}
