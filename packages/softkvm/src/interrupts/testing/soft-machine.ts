/** Our interrupt hardware, doing what a test lists. */

import { Irqchip } from "@lodge/kvm";
import { InterruptController } from "../interrupt-controller.ts";
import { interruptAreaBytes } from "../shared-layout.ts";
import { type ApicFeatures, VcpuInterrupts } from "../vcpu-interrupts.ts";
import { FAULTED, isGuests, type Operation, type Snapshot, type Subject, serve, set, TAKEN } from "./operations.ts";

export interface SoftOptions {
  split?: number;
  pit?: boolean;
  speaker?: boolean;
  features?: ApicFeatures;
  /** Ends what a window took, as some hosts do ({@link endsWhatItDelivers}). */
  endsWhatItDelivers?: boolean;
  /** Follows changes of routes only when it enters the guest, as some hosts do ({@link followsRoutesLate}). */
  followsRoutesLate?: boolean;
}

/** A processor whose host interprets instruction after instruction without a look at what they asked it for. */
class LateVcpuInterrupts extends VcpuInterrupts {
  override followRoutes(): void {}
  enter(): void {
    super.followRoutes();
  }
}

export class SoftMachine implements Subject {
  readonly controller: InterruptController;
  readonly vcpus: VcpuInterrupts[];
  readonly area: SharedArrayBuffer;
  readonly woken = new Set<number>();
  readonly resampled: number[] = [];
  /** Moved by hand. The guest's TSC counts nanoseconds. */
  nowNs = 1_000_000_000;

  readonly #endsWhatItDelivers: boolean;

  constructor(processors = 2, options: SoftOptions = {}) {
    this.#endsWhatItDelivers = options.endsWhatItDelivers ?? false;
    this.area = new SharedArrayBuffer(interruptAreaBytes(processors));
    this.controller = new InterruptController(this.area, 0, processors, {
      wake: (index) => this.woken.add(index),
      resample: (gsi) => this.resampled.push(gsi),
      nowNs: () => this.nowNs,
    });
    if (options.split === undefined) this.controller.createIrqchip();
    else this.controller.enableSplitIrqchip(options.split);
    if (options.pit) this.controller.createPit({ speaker: options.speaker ?? false });
    const clock = { nowNs: () => this.nowNs, tscToNs: (tsc: bigint) => Number(tsc) };
    const features = options.features ?? { x2apic: true, tscDeadline: true, physicalAddressBits: 46 };
    this.vcpus = Array.from({ length: processors }, (_, id) => {
      const Vcpu = options.followsRoutesLate ? LateVcpuInterrupts : VcpuInterrupts;
      const vcpu = new Vcpu(this.controller, this.controller.addApic(id), clock);
      vcpu.reset();
      vcpu.setFeatures(features);
      return vcpu;
    });
  }

  /** Lets time pass, every deadline at its time. */
  advance(ns: number): void {
    const end = this.nowNs + ns;
    for (;;) {
      const next = Math.min(...this.vcpus.map((vcpu) => vcpu.nextDeadline));
      if (next > end) break;
      this.nowNs = Math.max(this.nowNs, next);
      for (const vcpu of this.vcpus) vcpu.expire(this.nowNs);
    }
    this.nowNs = end;
  }

  perform(operations: readonly Operation[]): Snapshot {
    const statuses: number[] = [];
    const log: number[] = [];
    let inGuest = false;
    for (const operation of operations) {
      if (isGuests(operation) && !inGuest) this.#enter();
      inGuest = isGuests(operation);
      this.#perform(operation, statuses, log);
    }
    const { controller } = this;
    return {
      first: controller.getPic(Irqchip.PIC_MASTER),
      second: controller.getPic(Irqchip.PIC_SLAVE),
      ioapic: controller.getIoapic(),
      lapics: this.vcpus.map((vcpu) => vcpu.getLapic()),
      statuses,
      log,
    };
  }

  [Symbol.dispose](): void {}

  #enter(): void {
    const [vcpu] = this.vcpus;
    if (vcpu instanceof LateVcpuInterrupts) vcpu.enter();
    else vcpu!.followRoutes();
  }

  #window(vcpu: VcpuInterrupts, log: number[]): void {
    this.#enter();
    if (!vcpu.hasInterrupt()) return;
    const fromPic = this.controller.picOutput && vcpu.apic.acceptsPic;
    log.push(TAKEN | vcpu.acknowledge());
    if (this.#endsWhatItDelivers && !fromPic) vcpu.apic.endOfInterrupt();
  }

  #perform(operation: Operation, statuses: number[], log: number[]): void {
    const vcpu = this.vcpus["cpu" in operation ? operation.cpu : 0]!;
    switch (operation.do) {
      case "out":
        vcpu.writePort(operation.port, 1, operation.value);
        return;
      case "in":
        log.push(vcpu.readPort(operation.port, 1));
        return;
      case "store":
        vcpu.writeMmio(operation.address, 4, operation.value);
        return;
      case "load":
        log.push(vcpu.readMmio(operation.address, 4));
        return;
      case "wrmsr":
        log.push(vcpu.writeMsr(operation.index, operation.low, operation.high) ? 0 : FAULTED);
        return;
      case "rdmsr": {
        const low = vcpu.readMsr(operation.index);
        log.push(...(low < 0 ? [FAULTED, FAULTED] : [low, vcpu.msrHigh]));
        return;
      }
      case "window":
        this.#window(vcpu, log);
        return;
      case "serve":
        vcpu.setLapic(serve(vcpu.getLapic(), operation));
        return;
      case "set":
        vcpu.setLapic(set(vcpu.getLapic(), operation));
        return;
      case "base":
        vcpu.writeMsr(0x1b, operation.low, 0, true);
        return;
      case "routes":
        this.controller.setRouting(operation.routes);
        return;
      case "pic":
        this.controller.setPic(operation.chip, operation.state);
        return;
      case "ioapic":
        this.controller.setIoapic(operation.state);
        return;
      case "line":
        statuses.push(this.controller.setIrqLine(operation.gsi, operation.high));
        return;
      case "msi":
        // Nobody to deliver to is 0 at the interface.
        statuses.push(
          Math.max(0, this.controller.signalMsi({ addressLo: operation.address, addressHi: 0, data: operation.data })),
        );
        return;
    }
  }
}
