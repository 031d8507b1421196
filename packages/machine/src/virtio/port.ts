/** A virtio device in the I/O thread: its transport, and what its function in the vCPUs' threads shares with it. */

import { type GuestRam, type InterruptLine, type VirtioDevice, VirtioTransport } from "@lodge/devices";
import type { Hypervisor, Msi, Notifier } from "@lodge/kvm";
import { ConfigSpace } from "../pci/config-space.ts";
import { MsixTable } from "../pci/msix.ts";
import { VirtioFunction, type VirtioFunctionHandle } from "./function.ts";

export interface PortWires {
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
  readonly #watch: Disposable;
  readonly #rung: Int32Array;

  constructor(hypervisor: Hypervisor, slot: number, device: VirtioDevice, { ram, pin, send, failed }: PortWires) {
    let table: MsixTable | undefined;
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
    this.handle = {
      slot,
      registers,
      config: ConfigSpace.create(),
      msix: MsixTable.create(registers.vectors),
      rung: new SharedArrayBuffer(Math.ceil(registers.queueSizes.length / 32) * 4),
      notifier: this.#notifier.handle,
    };
    this.function = new VirtioFunction(this.handle, { pin, send, wake: () => this.#notifier.signal() }, true);
    table = this.function.msix;
    this.#rung = new Int32Array(this.handle.rung);
    this.#watch = this.#notifier.watch(() => this.#serve());
  }

  /** Once the vCPUs stand: the device leaves guest memory alone. */
  async pause(): Promise<void> {
    this.#serve();
    await this.#transport.pause();
  }

  resume(): void {
    this.#transport.resume();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#watch[Symbol.dispose]();
    await this.#transport.close();
    this.#notifier.close();
  }

  #serve(): void {
    this.#transport.control();
    for (let word = 0; word < this.#rung.length; word++) {
      let bits = Atomics.exchange(this.#rung, word, 0);
      for (; bits !== 0; bits &= bits - 1) this.#transport.notified(word * 32 + (31 - Math.clz32(bits & -bits)));
    }
  }
}
