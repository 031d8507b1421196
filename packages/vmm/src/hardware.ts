/** What a machine is made of: its description, and the devices that outlive its resets. */

import { join } from "node:path";
import { BalloonDevice, ConsoleDevice, RngDevice, releaseInFile, type VirtioDevice } from "@lodge/devices";
import type { MemoryBacking, PcDescription } from "@lodge/machine";
import type { Choice } from "./accelerator.ts";
import { Agents } from "./agent/agents.ts";
import { BootFile } from "./boot-files.ts";
import type { NetworkOptions } from "./configuration/networks.ts";
import type { CheckedOptions, MachineOptions } from "./configuration/options.ts";
import type { AttachedDisk } from "./disks/attached-disk.ts";
import type { DiskOptions } from "./disks/options.ts";
import { machineDisk } from "./images/machine-disk.ts";
import { cacheFolder, type Image } from "./images/store.ts";
import { KernelCache } from "./images/unpacked-kernels.ts";
import type { AttachedNetwork } from "./network.ts";
import { openSerial, type SerialLine } from "./serial.ts";

export interface Hardware {
  readonly memoryBytes: number;
  readonly agents: Agents;
  readonly balloon: BalloonDevice;
  /** What is there now; {@link Hotplug} changes it, and what is in the PC's slots, from the first on. */
  readonly disks: AttachedDisk[];
  readonly networks: AttachedNetwork[];
  readonly slots: (VirtioDevice | undefined)[];
  openDisk(options: DiskOptions, id: string): Promise<AttachedDisk>;
  openNetwork(options: NetworkOptions, id: string): Promise<AttachedNetwork>;
  /** Told when the guest's balloon has another size. */
  onBalloon: (bytes: number) => void;
  /** Told when something does not work any more. */
  onTrouble: (message: string) => void;
  readonly serial: SerialLine | undefined;
  readonly serialCards: readonly SerialLine[];
  /** The machine has begun: what was made for it stays as it was asked for. */
  begun(): void;
  /** What a PC is made from, at the start and at every reset. */
  describe(): PcDescription;
}

/** Opens what the machine has. What is to be closed at its end is added to `undo`. */
export async function assemble(
  options: MachineOptions,
  checked: CheckedOptions,
  image: Image | undefined,
  accelerator: Choice,
  undo: AsyncDisposableStack,
): Promise<Hardware> {
  const kernel = undo.use(BootFile.open(image?.kernel ?? options.kernel!, "kernel"));
  const initrdPath = image?.initrd ?? options.initrd;
  const initrd = initrdPath === undefined ? undefined : undo.use(BootFile.open(initrdPath, "initrd"));
  const agents = new Agents();
  const console = new ConsoleDevice({ ports: [{ console: true, onData: () => true }, ...agents.portOptions] });
  agents.connect(console.ports.slice(1));
  const backing = backingFor(checked);
  // Pages of a file or of a reserved pool are not given back one by one.
  const keeps = backing?.file !== undefined || backing?.hugePages === "2M";
  const balloon = new BalloonDevice({
    onResize: (bytes) => hardware.onBalloon(bytes),
    ...(keeps ? { release: () => {} } : backing?.shared && { release: releaseInFile }),
  });
  const disks: AttachedDisk[] = [];
  const networks: AttachedNetwork[] = [];
  // What a machine without disks or cards has no use for is not loaded.
  const openDisk = async (disk: DiskOptions, id: string) =>
    (await import("./disks/attached-disk.ts")).AttachedDisk.open(id, disk, checked.cpus.count);
  const openNetwork = async (network: NetworkOptions, id: string) =>
    (await import("./network.ts")).attachNetwork(id, network, options.name, (why) => hardware.onTrouble(why));
  const slots: (VirtioDevice | undefined)[] = [console, new RngDevice(), balloon];
  const own =
    image?.disk === undefined
      ? undefined
      : undo.use(await machineDisk(image.disk, options.name, options.ephemeral ?? false, options.signal));
  undo.defer(async () => {
    for (const one of [...disks, ...networks].toReversed()) await one[Symbol.asyncDispose]();
  });
  for (const one of [...(own ? [{ file: own.file }] : []), ...checked.disks]) {
    const disk = await openDisk(one, `disk${disks.length}`);
    disks.push(disk);
    slots.push(disk.device);
  }
  for (const one of checked.pmem) {
    const { device, file } = await (await import("./persistent-memory.ts")).openPmem(one);
    undo.defer(() => file.close());
    slots.push(device);
  }
  for (const { folder, tag, readonly: readOnly = false } of checked.shares) {
    const { FsDevice } = await import("@lodge/devices");
    const share = new FsDevice({ folder, tag, readOnly });
    undo.defer(() => share.close());
    slots.push(share);
  }
  const serial = options.serial && undo.use(openSerial(options.serial, (why) => hardware.onTrouble(why)));
  const serialCards = (options.serialCards ?? []).map((target) =>
    undo.use(openSerial(target, (why) => hardware.onTrouble(why))),
  );
  const sinks = [options.console, serial?.write].filter((sink) => sink !== undefined);
  for (const network of checked.networks) networks.push(await openNetwork(network, `net${networks.length}`));
  slots.push(...networks.map(({ device }) => device));
  const description: Omit<PcDescription, "kernel" | "initrd"> = {
    accelerator: accelerator.kind,
    memoryBytes: checked.memoryBytes,
    cpus: { ...checked.cpus, ...(options.cpu !== undefined && { model: options.cpu }) },
    ...(backing !== undefined && { memoryBacking: backing }),
    ...(checked.nodes !== undefined && { nodes: checked.nodes }),
    commandLine: commandLine(options, image),
    serial: [
      (bytes) => {
        for (const sink of sinks) sink(bytes);
      },
    ],
    ...(options.debugConsole && { debugConsole: options.debugConsole }),
    ...(options.debugExitPort !== undefined && { debugExitPort: options.debugExitPort }),
    ...(options.testDevice && { testDevice: true }),
    virtio: slots,
    serialCards: serialCards.map((card) => (bytes) => card.write(bytes)),
  };
  const describe = (): PcDescription => ({
    ...description,
    kernel,
    unpackedKernels: new KernelCache(),
    codeCache: join(cacheFolder(), "code"),
    ...(initrd && { initrd }),
  });
  const { memoryBytes } = checked;
  const nobody = () => {};
  const hardware: Hardware = {
    memoryBytes,
    agents,
    balloon,
    disks,
    networks,
    slots,
    openDisk,
    openNetwork,
    serial,
    serialCards,
    onBalloon: nobody,
    onTrouble: nobody,
    begun: () => own?.begun(),
    describe,
  };
  return hardware;
}

/** Whoever serves a card's rings has to see the guest's memory. */
function backingFor({ backing, networks }: CheckedOptions): MemoryBacking | undefined {
  return networks.some(({ mode }) => mode === "vhost-user") ? { ...backing, shared: true } : backing;
}

/** The image's, what its first program is told, and the user's, which comes last so that it counts. */
function commandLine({ name, append, shares = [] }: MachineOptions, image: Image | undefined): string {
  const told = [
    ...(name === undefined ? [] : [`lodge.name=${name}`]),
    ...shares.map(({ tag }) => `lodge.share=${tag}`),
  ];
  const all = image === undefined ? [append] : [image.append, ...told, append];
  return all.filter((part) => part !== undefined).join(" ");
}
