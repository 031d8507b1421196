/**
 * The devices that every PC has, on their ports. What they keep is in shared memory; each vCPU's thread and the I/O thread
 * makes its own chipset over it.
 */

import {
  Cmos,
  DebugConsole,
  DebugExit,
  FirmwareConfig,
  type InterruptLine,
  KeyboardControllerReset,
  PanicDevice,
  PowerManagement,
  type Registers,
  ResetControl,
  TestDevice,
  TestDeviceLines,
  TestDeviceMemory,
  Uart16550,
} from "@lodge/devices/vcpu-side";
import { Bus } from "./bus/bus.ts";
import { Gsi, IOAPIC_PINS } from "./interrupts.ts";
import { PCI_HOLE, TEST_DEVICE_MEMORY } from "./memory/address-map.ts";
import type { Buses, Stop } from "./vcpu/step.ts";

export const Port = {
  KEYBOARD_DATA: 0x60,
  KEYBOARD_COMMAND: 0x64,
  CMOS: 0x70,
  TEST_DEVICE: 0xe0,
  DEBUG_CONSOLE: 0xe9,
  COM2: 0x2f8,
  COM1: 0x3f8,
  FIRMWARE_CONFIG: 0x510,
  POWER_MANAGEMENT: 0x600,
  PCI_HOTPLUG: 0x620,
  RESET_CONTROL: 0xcf9,
  TEST_DEVICE_LINES: 0x2000,
} as const;

/** What there is beside the devices that every machine has. */
export interface ChipsetOptions {
  readonly cpus: number;
  readonly ramBytes: number;
  /** How many serial ports: COM1, or COM1 and COM2. */
  readonly serialPorts: 1 | 2;
  /** A port whose writes end the machine, as QEMU's isa-debug-exit does. */
  readonly debugExitPort?: number;
  /** kvm-unit-tests' test device. */
  readonly testDevice?: boolean;
}

/** A chipset as a value that can be posted to other threads. */
export interface ChipsetHandle {
  readonly options: ChipsetOptions;
  readonly serial: readonly SharedArrayBuffer[];
  readonly cmos: SharedArrayBuffer;
  readonly powerManagement: SharedArrayBuffer;
  readonly firmwareConfig: SharedArrayBuffer;
  readonly debugConsole: SharedArrayBuffer;
  readonly testDevice: { readonly ports: SharedArrayBuffer; readonly memory: SharedArrayBuffer } | undefined;
}

export interface ChipsetWires {
  readonly line: (gsi: number) => InterruptLine;
  /** Some device has something for the I/O thread. */
  readonly wakeHost: () => void;
  /** The guest's kernel has panicked; it may go on, to load a crash kernel. */
  readonly panicked: (crashLoaded: boolean) => void;
}

export function createChipset(options: ChipsetOptions): ChipsetHandle {
  const { cpus, ramBytes, serialPorts, testDevice = false } = options;
  const lowBytes = Math.min(ramBytes, PCI_HOLE);
  return {
    options,
    serial: Array.from({ length: serialPorts }, () => Uart16550.create()),
    cmos: Cmos.create({ lowBytes, highBytes: ramBytes - lowBytes, cpus }),
    powerManagement: PowerManagement.create(),
    firmwareConfig: FirmwareConfig.create(),
    debugConsole: DebugConsole.create(),
    testDevice: testDevice
      ? { ports: new SharedArrayBuffer(TestDevice.PORTS), memory: new SharedArrayBuffer(TestDeviceMemory.BYTES) }
      : undefined,
  };
}

export class Chipset implements Buses {
  readonly ports = new Bus("ports");
  readonly memory = new Bus("memory");
  readonly serial: readonly Uart16550[];
  readonly cmos: Cmos;
  readonly powerManagement: PowerManagement;
  readonly debugConsole: DebugConsole;
  /** At a port in the middle of PCI's, which hands on what is meant for it. */
  readonly resetControl: ResetControl;
  #request: Stop | undefined;

  constructor(handle: ChipsetHandle, { line, wakeHost, panicked }: ChipsetWires) {
    const { options } = handle;
    const ask = (request: Stop) => {
      this.#request = request;
    };
    const reset = () => ask({ reason: "reset" });

    const places = [
      { port: Port.COM1, gsi: Gsi.COM1 },
      { port: Port.COM2, gsi: Gsi.COM2 },
    ];
    this.serial = handle.serial.map((shared, index) => {
      const { port, gsi } = places[index]!;
      const uart = new Uart16550(shared, { irq: line(gsi), wakeHost });
      this.ports.add(port, Uart16550.PORTS, uart);
      return uart;
    });

    this.cmos = new Cmos(handle.cmos, { irq: line(Gsi.RTC), nowMs: Date.now, wakeHost });
    this.ports.add(Port.CMOS, Cmos.PORTS, this.cmos);

    this.powerManagement = new PowerManagement(handle.powerManagement, {
      sci: line(Gsi.SCI),
      // The same in every thread, unlike performance.now().
      nowNs: () => Number(process.hrtime.bigint() % 2n ** 52n),
      powerOff: () => ask({ reason: "power-off" }),
    });
    this.ports.add(Port.POWER_MANAGEMENT, PowerManagement.PORTS, this.powerManagement);

    const keyboard = new KeyboardControllerReset(reset);
    this.ports.add(Port.KEYBOARD_DATA, 1, NOTHING_TO_SAY);
    this.ports.add(Port.KEYBOARD_COMMAND, 1, keyboard);
    this.resetControl = new ResetControl(reset);

    this.debugConsole = new DebugConsole(handle.debugConsole, wakeHost);
    this.ports.add(Port.DEBUG_CONSOLE, 1, this.debugConsole);
    this.ports.add(PanicDevice.PORT, 1, new PanicDevice(panicked));
    const items = { cpus: options.cpus, maxCpus: options.cpus, ramBytes: options.ramBytes };
    this.ports.add(Port.FIRMWARE_CONFIG, FirmwareConfig.PORTS, new FirmwareConfig(handle.firmwareConfig, items));

    if (options.debugExitPort !== undefined) {
      const exit = new DebugExit((status) => ask({ reason: "debug-exit", status }));
      this.ports.add(options.debugExitPort, DebugExit.PORTS, exit);
    }
    if (handle.testDevice !== undefined) {
      const lines = Array.from({ length: IOAPIC_PINS }, (_, gsi) => line(gsi));
      this.ports.add(Port.TEST_DEVICE, TestDevice.PORTS, new TestDevice(handle.testDevice.ports));
      this.ports.add(Port.TEST_DEVICE_LINES, IOAPIC_PINS, new TestDeviceLines(lines));
      this.memory.add(TEST_DEVICE_MEMORY, TestDeviceMemory.BYTES, new TestDeviceMemory(handle.testDevice.memory));
    }
  }

  takeRequest(): Stop | undefined {
    const request = this.#request;
    this.#request = undefined;
    return request;
  }
}

/** The keyboard's data port, without a keyboard. */
const NOTHING_TO_SAY: Registers = { read: () => 0, write: () => {} };
