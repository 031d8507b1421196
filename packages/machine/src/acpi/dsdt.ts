/** What ACPI's differentiated description table says of this machine, in AML. */

import { PanicDevice, SOFT_OFF_TYPE } from "@lodge/devices/vcpu-side";
import { Port } from "../chipset.ts";
import { Gsi, PCI_LINES } from "../interrupts.ts";
import { ECAM, PCI_WINDOW } from "../memory/address-map.ts";
import {
  argument,
  device,
  eisaId,
  integer,
  join,
  method,
  name,
  packageOf,
  returns,
  scope,
  string,
  type Term,
} from "./aml.ts";
import { pciSlots, slotsEvent } from "./hotplug.ts";
import {
  busNumbers,
  fixedMemory,
  isaInterrupt,
  memoryWindow,
  memoryWindow64,
  ports,
  portWindow,
  resourceTemplate,
} from "./resources.ts";

export interface DsdtOptions {
  readonly cpus: number;
  readonly serialPorts: number;
  readonly highPciWindow: { readonly start: number; readonly sizeBytes: number };
  /** Where the VM generation id lies. */
  readonly generationId: number;
  /** The NUMA node of each vCPU, where there are nodes. */
  readonly nodeOf?: (cpu: number) => number;
}

export function dsdt(options: DsdtOptions): Term {
  return join(
    name("\\_S5", packageOf(integer(SOFT_OFF_TYPE), integer(0), integer(0), integer(0))),
    scope(
      "\\_SB",
      ...Array.from({ length: options.cpus }, (_, cpu) => processor(cpu, options.nodeOf?.(cpu))),
      pciHost(options.highPciWindow),
      ecamReservation(),
      clock(),
      ...[
        { port: Port.COM1, irq: Gsi.COM1 },
        { port: Port.COM2, irq: Gsi.COM2 },
      ]
        .slice(0, options.serialPorts)
        .map(({ port, irq }, index) => serialPort(index, port, irq)),
      panicDevice(),
      generationId(options.generationId),
    ),
    slotsEvent("\\_SB.PCI0"),
  );
}

const PRESENT = integer(0xf);

function processor(cpu: number, node: number | undefined): Term {
  return device(
    `C${cpu.toString(16).toUpperCase().padStart(3, "0")}`,
    name("_HID", string("ACPI0007")),
    name("_UID", integer(cpu)),
    ...(node === undefined ? [] : [name("_PXM", integer(node))]),
  );
}

function pciHost(high: { start: number; sizeBytes: number }): Term {
  return device(
    "PCI0",
    name("_HID", eisaId("PNP0A08")),
    name("_CID", eisaId("PNP0A03")),
    name("_SEG", integer(0)),
    name("_BBN", integer(0)),
    name("_UID", integer(0)),
    name(
      "_CRS",
      resourceTemplate(
        busNumbers(0, ECAM.buses),
        // Its own ports, and the windows around them.
        ports(0xcf8, 8),
        portWindow(0, 0xcf8),
        portWindow(0xd00, 0x10000 - 0xd00),
        memoryWindow(PCI_WINDOW.start, PCI_WINDOW.sizeBytes),
        memoryWindow64(high.start, high.sizeBytes),
      ),
    ),
    name("_PRT", interruptRoutes()),
    // Whatever the system asks to control it may: there is no firmware that would.
    method("_OSC", 4, returns(argument(3))),
    ...pciSlots(),
  );
}

/** Pins are wired to the four lines in turn, slot by slot, as boards do. */
function interruptRoutes(): Term {
  const routes = Array.from({ length: 32 * PCI_LINES }, (_, index) => {
    const slot = Math.floor(index / PCI_LINES);
    const pin = index % PCI_LINES;
    return packageOf(integer(slot * 2 ** 16 + 0xffff), integer(pin), integer(0), integer(pciLine(slot, pin)));
  });
  return packageOf(...routes);
}

/** The GSI of a slot's pin (0 is INTA). */
export function pciLine(slot: number, pin: number): number {
  return Gsi.PCI + ((slot + pin) % PCI_LINES);
}

/** Linux uses ECAM only where some device has reserved it. */
function ecamReservation(): Term {
  return device(
    "MBRD",
    name("_HID", eisaId("PNP0C02")),
    name("_UID", integer(0)),
    name("_CRS", resourceTemplate(fixedMemory(ECAM.start, ECAM.sizeBytes))),
  );
}

function clock(): Term {
  return device(
    "RTC",
    name("_HID", eisaId("PNP0B00")),
    name("_CRS", resourceTemplate(ports(Port.CMOS, 2), isaInterrupt(Gsi.RTC))),
  );
}

function serialPort(index: number, port: number, irq: number): Term {
  return device(
    `COM${index + 1}`,
    name("_HID", eisaId("PNP0501")),
    name("_UID", integer(index)),
    name("_STA", PRESENT),
    name("_CRS", resourceTemplate(ports(port, 8), isaInterrupt(irq))),
  );
}

/** QEMU's pvpanic, under the name that drivers know. */
function panicDevice(): Term {
  return device(
    "PEVT",
    name("_HID", string("QEMU0001")),
    name("_STA", PRESENT),
    name("_CRS", resourceTemplate(ports(PanicDevice.PORT, 1))),
  );
}

/** Microsoft's "Virtual Machine Generation ID", 2012: 16 bytes that change when a machine is restored from a snapshot. */
function generationId(address: number): Term {
  return device(
    "VGEN",
    name("_HID", string("LODG0001")),
    name("_CID", string("VM_Gen_Counter")),
    name("_DDN", string("VM_Gen_Counter")),
    name("ADDR", packageOf(integer(address % 2 ** 32), integer(Math.floor(address / 2 ** 32)))),
  );
}
