/** A virtio device in the I/O thread: its transport, and what its function in the vCPUs' threads shares with it. */

import { type GuestRam, type InterruptLine, type VirtioDevice, VirtioTransport } from "@lodge/devices";
import type { Hypervisor, Msi, Notifier, Vm } from "@lodge/kvm";
import { ConfigSpace } from "../pci/config-space.ts";
import { MsixTable } from "../pci/msix.ts";
import { Doorbells } from "./doorbells.ts";
import { VirtioFunction, type VirtioFunctionHandle } from "./function.ts";

export interface PortWires {
  readonly vm: Vm;
  readonly ram: GuestRam;
  readonly pin: InterruptLine;
  readonly send: (message: Msi) => void;
  /** The driver broke the rules; the device waits for its reset. */
  readonly failed: (reason: string) => void;
}

export class VirtioPort implements AsyncDisposable {
  readonly handle: VirtioFunctionHandle;
  readonly function: VirtioFunction;
  readonly #transport: VirtioTransport;
  readonly #notifier: Notifier;
  readonly #pin: InterruptLine;
  readonly #doorbells: Doorbells;
  readonly #watches: readonly Disposable[];

  constructor(hypervisor: Hypervisor, slot: number, device: VirtioDevice, { vm, ram, pin, send, failed }: PortWires) {
    let table: MsixTable | undefined;
    this.#pin = pin;
    this.#transport = new VirtioTransport(device, {
      ram,
      interrupts: {
        get messages() {
          return table?.isEnabled ?? false;
        },
        message: (vector) => table?.raise(vector),
        raiseLine: () => {
          this.function.space.showInterrupt(true);
          pin.set(true);
        },
        lowerLine: () => {
          this.function.space.showInterrupt(false);
          pin.set(false);
        },
      },
      onFailure: failed,
    });
    const registers = this.#transport.handle;
    this.#notifier = hypervisor.createNotifier();
    const doorbells = new Doorbells(hypervisor, vm, registers.queueSizes.length);
    this.#doorbells = doorbells;
    this.handle = {
      slot,
      registers,
      config: ConfigSpace.create(),
      msix: MsixTable.create(registers.vectors),
      doorbells: doorbells.handle,
      notifier: this.#notifier.handle,
    };
    const wires = { pin, send, doorbells, wake: () => this.#notifier.signal() };
    this.function = new VirtioFunction(this.handle, wires, true);
    table = this.function.msix;
    this.#watches = [
      this.#notifier.watch(() => this.#transport.control()),
      ...doorbells.notifiers.flatMap((doorbell, queue) => {
        const { fd } = doorbell.handle;
        if (fd !== undefined && device.takeDoorbell(queue, fd)) return [];
        return [doorbell.watch(() => this.#transport.notified(queue))];
      }),
    ];
  }

  /** Once the vCPUs stand: the device leaves guest memory alone. */
  async pause(): Promise<void> {
    await this.#transport.pause();
  }

  resume(): void {
    this.#transport.resume();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const watch of this.#watches) watch[Symbol.dispose]();
    this.#doorbells.follow(() => undefined);
    await this.#transport.close();
    // Others share its line.
    this.#pin.set(false);
    this.#doorbells[Symbol.dispose]();
    this.#notifier.close();
  }
}
