/** What an OVF says of a machine: DMTF's DSP0243 1.1 and 2.0, as VMware and VirtualBox write it. */

import { StorageError } from "../errors.ts";
import { Element } from "./xml.ts";

export interface Appliance {
  name: string;
  /** What the machine was made for, in its maker's words. */
  system?: string;
  firmware: "bios" | "efi";
  cpus: number;
  coresPerSocket?: number;
  memoryBytes: number;
  disks: ApplianceDisk[];
  networks: ApplianceNetwork[];
}

export interface ApplianceDisk {
  /** The file that holds it; without one it is empty. */
  file?: string;
  capacityBytes: number;
  /** What it hung on. */
  controller?: string;
}

export interface ApplianceNetwork {
  /** The name that the network had where the machine comes from. */
  network: string;
  mac?: string;
  model?: string;
}

/** CIM's resource types that matter (CIM_ResourceAllocationSettingData). */
const Resource = { CPU: 3, MEMORY: 4, IDE: 5, SCSI: 6, ETHERNET: 10, DISK: 17, SATA: 20 } as const;
const CONTROLLERS: ReadonlyMap<number, string> = new Map([
  [Resource.IDE, "ide"],
  [Resource.SCSI, "scsi"],
  [Resource.SATA, "sata"],
]);

const MAX_DISKS = 64;
const MAX_NETWORKS = 32;
const MAX_BYTES = 2 ** 46;

/** Reads the description; a {@link StorageError} of code `STORAGE_OPEN` says what it lacks. */
export function parseOvf(text: string): Appliance {
  const envelope = parse(text).child("Envelope");
  if (envelope === undefined) throw refusal("it is no OVF: it has no Envelope");
  const systems = machines(envelope);
  if (systems.length !== 1) {
    const names = systems.map(nameOf).join(", ");
    throw refusal(`it describes ${systems.length} machines (${names}), and one is taken: export them one by one`);
  }
  const system = systems[0]!;
  const hardware = system.child("VirtualHardwareSection");
  if (hardware === undefined) throw refusal("its machine has no VirtualHardwareSection");
  const items = ["Item", "StorageItem", "EthernetPortItem"].flatMap((kind) => hardware.children(kind)).filter(isWanted);
  const of = (type: number) => items.filter((item) => number(item, "ResourceType") === type);
  const cpu = of(Resource.CPU)[0];
  const memory = of(Resource.MEMORY)[0];
  const cores = cpu && number(cpu, "CoresPerSocket");
  const operatingSystem = system.child("OperatingSystemSection")?.child("Description")?.text;
  return {
    name: nameOf(system),
    ...(operatingSystem !== undefined && operatingSystem !== "" && { system: operatingSystem }),
    firmware: isEfi(hardware) ? "efi" : "bios",
    cpus: bounded(cpu === undefined ? 1 : number(cpu, "VirtualQuantity"), 1, 4096, "processors"),
    ...(cores !== undefined && cores > 1 && { coresPerSocket: cores }),
    memoryBytes: memoryBytes(memory),
    disks: disks(envelope, of(Resource.DISK), items),
    networks: of(Resource.ETHERNET).slice(0, MAX_NETWORKS).map(network),
  };
}

function parse(text: string): Element {
  try {
    return Element.parse(text);
  } catch (cause) {
    throw new StorageError("STORAGE_OPEN", `its OVF is no XML: ${(cause as Error).message}`, { cause });
  }
}

/** Machines, also inside of collections. */
function machines(element: Element): Element[] {
  const inside = element.children("VirtualSystemCollection").flatMap(machines);
  return [...element.children("VirtualSystem"), ...inside];
}

function nameOf(system: Element): string {
  const name = system.child("Name")?.text;
  return (name === undefined || name === "" ? system.attribute("id") : name) ?? "machine";
}

/** Items for one of several configurations, and those that may be left out, are none of ours. */
function isWanted(item: Element): boolean {
  return item.attribute("required") !== "false" || number(item, "ResourceType") === Resource.DISK;
}

function isEfi(hardware: Element): boolean {
  return hardware.children("Config").some((config) => {
    return config.attribute("key") === "firmware" && config.attribute("value")?.toLowerCase() === "efi";
  });
}

function memoryBytes(item: Element | undefined): number {
  if (item === undefined) throw refusal("it does not say how much memory its machine has");
  const quantity = number(item, "VirtualQuantity") ?? Number.NaN;
  return bounded(quantity * units(item.child("AllocationUnits")?.text ?? "byte * 2^20"), 2 ** 20, MAX_BYTES, "memory");
}

/** DSP0004's programmatic units, "byte * 2^20", and what was written before there were any. */
function units(text: string): number {
  const power = /^bytes?\s*\*\s*2\s*\^\s*(\d{1,2})$/i.exec(text)?.[1];
  if (power !== undefined) return 2 ** Number(power);
  const old = new Map([
    ["", 1],
    ["byte", 1],
    ["bytes", 1],
    ["kilobytes", 2 ** 10],
    ["megabytes", 2 ** 20],
    ["gigabytes", 2 ** 30],
  ]).get(text.toLowerCase());
  if (old === undefined) throw refusal(`the unit "${text.slice(0, 40)}" is not known`);
  return old;
}

/** The machine's disks in the order of their places on the controllers. */
function disks(envelope: Element, wanted: Element[], items: Element[]): ApplianceDisk[] {
  if (wanted.length > MAX_DISKS) throw refusal(`${wanted.length} disks; ${MAX_DISKS} are the most`);
  return wanted.map((item) => {
    const host = item.child("HostResource")?.text ?? "";
    const id = /^(?:ovf:)?\/disk\/(.+)$/.exec(host)?.[1];
    const disk = envelope
      .children("DiskSection")
      .flatMap((section) => section.children("Disk"))
      .find((one) => one.attribute("diskId") === id);
    if (id === undefined || disk === undefined)
      throw refusal(`a disk of its machine is "${host}", which it does not describe`);
    if (disk.attribute("parentRef") !== undefined) throw refusal(`its disk ${id} holds the changes to another one`);
    const parent = item.child("Parent")?.text;
    const type = number(items.find((one) => one.child("InstanceID")?.text === parent) ?? item, "ResourceType");
    const controller = CONTROLLERS.get(type ?? 0);
    const file = fileOf(envelope, disk);
    return {
      ...(file !== undefined && { file }),
      capacityBytes: capacity(disk),
      ...(controller !== undefined && { controller }),
    };
  });
}

function fileOf(envelope: Element, disk: Element): string | undefined {
  const reference = disk.attribute("fileRef");
  if (reference === undefined) return undefined;
  const file = envelope
    .child("References")
    ?.children("File")
    .find((one) => one.attribute("id") === reference);
  const name = file?.attribute("href");
  if (file === undefined || name === undefined) throw refusal(`its file ${reference} is not among its references`);
  // The text comes with the appliance: it must not name other files of this host.
  if (/[/\\\0]/.test(name) || name === ".." || name === ".") throw refusal(`its file "${name}" is not beside it`);
  if (file.attribute("chunkSize") !== undefined) throw refusal(`its file ${name} is in pieces: join them first`);
  const compression = file.attribute("compression") ?? "identity";
  if (compression !== "identity") throw refusal(`its file ${name} is packed with ${compression}: unpack it first`);
  return name;
}

function capacity(disk: Element): number {
  const value = Number(disk.attribute("capacity")) * units(disk.attribute("capacityAllocationUnits") ?? "byte");
  return bounded(value, 512, MAX_BYTES, "a disk's capacity");
}

function network(item: Element): ApplianceNetwork {
  const model = item.child("ResourceSubType")?.text;
  // VirtualBox writes it without colons.
  const digits = item.child("Address")?.text.replaceAll(/[-:]/g, "").toLowerCase();
  const mac = digits !== undefined && /^[0-9a-f]{12}$/.test(digits) ? digits.match(/../g)!.join(":") : undefined;
  return {
    network: item.child("Connection")?.text ?? "",
    ...(mac !== undefined && { mac }),
    ...(model !== undefined && model !== "" && { model }),
  };
}

function number(element: Element, name: string): number | undefined {
  const text = element.child(name)?.text;
  return text === undefined || !/^\d{1,15}$/.test(text) ? undefined : Number(text);
}

function bounded(value: number | undefined, least: number, most: number, what: string): number {
  if (value !== undefined && Number.isSafeInteger(value) && value >= least && value <= most) return value;
  throw refusal(`${what}: ${value} is not from ${least} to ${most}`);
}

function refusal(why: string): StorageError {
  return new StorageError("STORAGE_OPEN", why);
}
