/**
 * A PCI card with one serial port, a 16550A. It says that it is a NetMos 9900 (MosChip's, later ASIX's), as Linux's driver for such
 * cards takes messages of this one; the registers are in memory, which that driver reads off the BAR.
 */

import { type InterruptLine, nothingThere, type Registers, Uart16550 } from "@lodge/devices/vcpu-side";
import type { Msi } from "@lodge/kvm";
import type { PciFunction } from "./bus.ts";
import { ConfigSpace, type FunctionLayout } from "./config-space.ts";
import { MessageOrPin, type MessageOrPinHandle } from "./message-or-pin.ts";

const LAYOUT: FunctionLayout = {
  identity: {
    vendor: 0x9710,
    device: 0x9900,
    revision: 0,
    // A serial controller, 16550.
    classCode: 0x070002,
    subsystemVendor: 0xa000,
    subsystem: 0x1000,
  },
  bars: [{ kind: "memory", sizeBytes: 4096 }],
  interruptPin: true,
  msi: { vectors: 1 },
  capabilities: [],
};

/** A card as a value that can be posted to the vCPUs' threads. */
export interface SerialCardHandle {
  readonly slot: number;
  readonly config: SharedArrayBuffer;
  readonly uart: SharedArrayBuffer;
  readonly interrupt: MessageOrPinHandle;
}

export interface SerialCardWires {
  readonly pin: InterruptLine;
  readonly send: (message: Msi) => void;
  /** {@link Uart16550}'s. */
  readonly wakeHost: () => void;
}

export class SerialCard implements PciFunction {
  readonly slot: number;
  readonly space: ConfigSpace;
  readonly bars: readonly Registers[];
  readonly uart: Uart16550;
  readonly #interrupt: MessageOrPin;

  static create(slot: number): SerialCardHandle {
    const config = ConfigSpace.create();
    new ConfigSpace(config, LAYOUT, true);
    return { slot, config, uart: Uart16550.create(), interrupt: MessageOrPin.create() };
  }

  constructor({ slot, config, uart, interrupt }: SerialCardHandle, { pin, send, wakeHost }: SerialCardWires) {
    this.slot = slot;
    this.space = new ConfigSpace(config, LAYOUT);
    const irq = new MessageOrPin(interrupt, this.space, { pin, send });
    this.#interrupt = irq;
    this.uart = new Uart16550(uart, { irq, wakeHost });
    this.bars = [within(this.uart, Uart16550.PORTS)];
  }

  configWritten(offset: number): void {
    this.#interrupt.configWritten(offset);
  }
}

/** Registers at the beginning of a BAR that is larger. */
function within(registers: Registers, bytes: number): Registers {
  return {
    read: (offset, size) => (offset + size <= bytes ? registers.read(offset, size) : nothingThere(size)),
    write: (offset, size, value) => {
      if (offset + size <= bytes) registers.write(offset, size, value);
    },
  };
}
