/** ACPI's static tables (ACPI 6.4, section 5.2), laid out in guest memory. */

import { GENERAL_BYTES, PmOffset, ResetControl } from "@lodge/devices/vcpu-side";
import { Port } from "../chipset.ts";
import { Gsi } from "../interrupts.ts";
import { Boot, ECAM, IOAPIC, LOCAL_APIC } from "../memory/address-map.ts";
import { little } from "./aml.ts";
import { type DsdtOptions, dsdt } from "./dsdt.ts";

/** A NUMA node: its memory, and which vCPUs it has. */
export interface NodeLayout {
  readonly cpus: readonly number[];
  readonly memory: readonly { readonly start: number; readonly sizeBytes: number }[];
  /** Distances to each node, 10 for itself. */
  readonly distances: readonly number[];
}

export interface AcpiOptions extends Omit<DsdtOptions, "cpus" | "nodeOf" | "generationId"> {
  /** The APIC ids of the vCPUs. */
  readonly apicIds: readonly number[];
  readonly nodes?: readonly NodeLayout[];
}

export interface AcpiTables {
  /** What lies at {@link Boot.ACPI}: the root pointer first, which is where boot protocols look. */
  readonly bytes: Uint8Array;
  /** Where the VM generation id lies: 16 bytes. */
  readonly generationId: number;
}

const HEADER = 36;
const RSDP_BYTES = 36;
const FACS_BYTES = 64;
/** The generation id wants a place of its own, on 8 bytes. */
const GENERATION_ID_AT = 0x40;
const FACS_AT = 0x80;
const TABLES_AT = FACS_AT + FACS_BYTES;

export function acpiTables(options: AcpiOptions): AcpiTables {
  const { apicIds, nodes } = options;
  const memory = new Uint8Array(Boot.ACPI_END - Boot.ACPI);
  let end = TABLES_AT;
  const place = (table: Uint8Array): number => {
    const at = Math.ceil(end / 16) * 16;
    if (at + table.length > memory.length) throw new RangeError("ACPI's tables do not fit below 1 MiB");
    memory.set(table, at);
    end = at + table.length;
    return Boot.ACPI + at;
  };

  memory.set(facs(), FACS_AT);
  const generationId = Boot.ACPI + GENERATION_ID_AT;
  const nodeOf = nodes && ((cpu: number) => nodes.findIndex(({ cpus }) => cpus.includes(cpu)));
  const description = dsdt({
    ...options,
    cpus: apicIds.length,
    generationId,
    ...(nodeOf === undefined ? {} : { nodeOf }),
  });
  const dsdtAt = place(table("DSDT", 2, description));
  const others = [fadt(dsdtAt, Boot.ACPI + FACS_AT), madt(apicIds), mcfg()];
  if (nodes !== undefined) others.push(srat(nodes, apicIds), slit(nodes));
  const xsdt = place(
    table(
      "XSDT",
      1,
      others.map(place).flatMap((at) => little(at, 8)),
    ),
  );
  memory.set(rsdp(xsdt), 0);
  return { bytes: memory.slice(0, end), generationId };
}

/** A table with its header (5.2.6) and checksum. */
function table(signature: string, revision: number, body: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(HEADER + body.length);
  bytes.set([
    ...text(signature, 4),
    ...little(bytes.length, 4),
    revision,
    0,
    ...text("LODGE", 6),
    ...text("LODGEPC", 8),
    ...little(1, 4),
    ...text("LODG", 4),
    ...little(1, 4),
  ]);
  bytes.set(body, HEADER);
  bytes[9] = checksum(bytes);
  return bytes;
}

function text(value: string, length: number): number[] {
  return [...new TextEncoder().encode(value.padEnd(length, value.length === 4 ? "" : " "))].slice(0, length);
}

/** What makes the bytes' sum 0. */
function checksum(bytes: Uint8Array): number {
  return -bytes.reduce((sum, byte) => sum + byte, 0) & 0xff;
}

/** The root pointer (5.2.5.3): the first checksum is over what ACPI 1.0 had. */
function rsdp(xsdt: number): Uint8Array {
  const bytes = Uint8Array.from([
    ...text("RSD PTR ", 8),
    0,
    ...text("LODGE", 6),
    2,
    ...little(0, 4),
    ...little(RSDP_BYTES, 4),
    ...little(xsdt, 8),
    0,
    0,
    0,
    0,
  ]);
  bytes[8] = checksum(bytes.subarray(0, 20));
  bytes[32] = checksum(bytes);
  return bytes;
}

/** 5.2.10: what the system keeps for firmware, of which there is none. */
function facs(): Uint8Array {
  const bytes = new Uint8Array(FACS_BYTES);
  bytes.set([...text("FACS", 4), ...little(FACS_BYTES, 4)]);
  bytes[32] = 2;
  return bytes;
}

/** Flags of the FADT (table 5.10). A power button of the fixed hardware is there where PWR_BUTTON is clear. */
const FadtFlag = {
  WBINVD: 1 << 0,
  PROC_C1: 1 << 2,
  NO_FIXED_SLEEP_BUTTON: 1 << 5,
  TIMER_32_BITS: 1 << 8,
  RESET_REGISTER: 1 << 10,
} as const;

/** IA-PC boot architecture flags (table 5.11): ISA devices are there; a VGA card and a keyboard controller are not. */
const BootFlag = { LEGACY_DEVICES: 1 << 0, NO_VGA: 1 << 2 } as const;

/** No such C-state: its latency is above the limit (5.2.9). */
const NO_C2 = 0xfff;
const NO_C3 = 0xfff;
/** CMOS registers: no alarm by day and month; the century's. */
const CENTURY = 0x32;

function fadt(dsdtAt: number, facsAt: number): Uint8Array {
  const event = Port.POWER_MANAGEMENT + PmOffset.EVENT;
  const control = Port.POWER_MANAGEMENT + PmOffset.CONTROL;
  const timer = Port.POWER_MANAGEMENT + PmOffset.TIMER;
  const general = Port.POWER_MANAGEMENT + PmOffset.GENERAL;
  const { WBINVD, PROC_C1, NO_FIXED_SLEEP_BUTTON, TIMER_32_BITS, RESET_REGISTER } = FadtFlag;
  const body = [
    ...little(facsAt, 4),
    ...little(dsdtAt, 4),
    0,
    // Preferred profile: enterprise server.
    4,
    ...little(Gsi.SCI, 2),
    // SMI command, ACPI enable and disable, S4BIOS, P-states: ACPI is always on.
    ...little(0, 4),
    0,
    0,
    0,
    0,
    ...[event, 0, control, 0, 0, timer, general, 0].flatMap((port) => little(port, 4)),
    // Lengths: PM1 event, PM1 control, PM2, timer, GPE0, GPE1; GPE1's base; C-state control.
    4,
    2,
    0,
    4,
    GENERAL_BYTES,
    0,
    0,
    0,
    ...little(NO_C2, 2),
    ...little(NO_C3, 2),
    // Flush size and stride (WBINVD works); duty offset and width; alarms.
    ...little(0, 4),
    0,
    0,
    0,
    0,
    CENTURY,
    ...little(BootFlag.LEGACY_DEVICES | BootFlag.NO_VGA, 2),
    0,
    ...little(WBINVD | PROC_C1 | NO_FIXED_SLEEP_BUTTON | TIMER_32_BITS | RESET_REGISTER, 4),
    ...ioRegister(Port.RESET_CONTROL, 8),
    ResetControl.FULL,
    // ARM's flags; minor version.
    ...little(0, 2),
    3,
    ...little(facsAt, 8),
    ...little(dsdtAt, 8),
    ...ioRegister(event, 32),
    ...NO_REGISTER,
    ...ioRegister(control, 16),
    ...NO_REGISTER,
    ...NO_REGISTER,
    ...ioRegister(timer, 32),
    ...ioRegister(general, 8 * GENERAL_BYTES),
    ...NO_REGISTER,
    // Sleep control and status, for hardware-reduced systems; the hypervisor's name.
    ...NO_REGISTER,
    ...NO_REGISTER,
    ...text("LODGE", 8),
  ];
  return table("FACP", 6, body);
}

/** A generic address (5.2.3.2): a register of ports. Access size 0 is what the width says. */
function ioRegister(port: number, bits: number): number[] {
  return [1, bits, 0, 0, ...little(port, 8)];
}
const NO_REGISTER = Array.from({ length: 12 }, () => 0);

/** Level-triggered, active high (table 5.26). */
const LEVEL_HIGH = 0xd;

/** 5.2.12: the interrupt controllers. */
function madt(apicIds: readonly number[]): Uint8Array {
  return table("APIC", 5, [
    ...little(LOCAL_APIC, 4),
    // There are 8259s, too.
    ...little(1, 4),
    ...apicIds.flatMap((id, index) => [0, 8, index & 0xff, id, ...little(1, 4)]),
    ...[1, 12, 0, 0, ...little(IOAPIC, 4), ...little(0, 4)],
    // ISA's line 0 is at pin 2; line 9 is level-triggered.
    ...[2, 10, 0, 0, ...little(Gsi.TIMER, 4), ...little(0, 2)],
    ...[2, 10, 0, Gsi.SCI, ...little(Gsi.SCI, 4), ...little(LEVEL_HIGH, 2)],
    // LINT1 of all processors is the NMI.
    ...[4, 6, 0xff, ...little(0, 2), 1],
  ]);
}

/** PCI Firmware Specification 3.0, 4.1.2: where configuration space is. */
function mcfg(): Uint8Array {
  return table("MCFG", 1, [
    ...little(0, 8),
    ...little(ECAM.start, 8),
    ...little(0, 2),
    0,
    ECAM.buses - 1,
    ...little(0, 4),
  ]);
}

/** 5.2.16: which node has which processors and memory. */
function srat(nodes: readonly NodeLayout[], apicIds: readonly number[]): Uint8Array {
  const entries = nodes.flatMap(({ cpus, memory }, node) => [
    ...cpus.flatMap((cpu) => [0, 16, node, apicIds[cpu]!, ...little(1, 4), 0, 0, 0, 0, ...little(0, 4)]),
    ...memory.flatMap(({ start, sizeBytes }) => [
      ...[1, 40, ...little(node, 4), ...little(0, 2)],
      ...[...little(start, 8), ...little(sizeBytes, 8), ...little(0, 4), ...little(1, 4), ...little(0, 8)],
    ]),
  ]);
  return table("SRAT", 3, [...little(1, 4), ...little(0, 8), ...entries]);
}

/** 5.2.17: distances between nodes. */
function slit(nodes: readonly NodeLayout[]): Uint8Array {
  return table("SLIT", 1, [...little(nodes.length, 8), ...nodes.flatMap(({ distances }) => [...distances])]);
}
