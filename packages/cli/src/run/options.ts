/** The options of `lodge run`, from text to what the library takes. */

import {
  type Accelerator,
  type CpuOptions,
  type DiskOptions,
  type MachineOptions,
  type NetworkOptions,
  type NumaNode,
  type PmemOptions,
  parseAccelerator,
  parseCount,
  parseDisk,
  parseFields,
  parseNetwork,
  parsePmem,
  parseSwitch,
  type ShareOptions,
  VmmError,
} from "@lodge/vmm";
import { type Command, Option } from "commander";
import { affinityOf, type Pin, parseCpus, parseNode, parsePin } from "./cpus.ts";
import { parseMemory } from "./memory.ts";
import { parseSerial, type SerialPlace } from "./serial.ts";

export interface RunFlags {
  accel?: Accelerator;
  cpu?: string;
  cpus?: CpuOptions;
  memory?: Pick<MachineOptions, "memory" | "memoryBacking">;
  numa?: NumaNode[];
  pin?: Pin[];
  kernel?: string;
  initrd?: string;
  append?: string;
  disk?: DiskOptions[];
  net?: NetworkOptions[];
  pmem?: PmemOptions[];
  share?: ShareOptions[];
  serial: SerialPlace;
  name?: string;
  rm?: true;
  qmp?: string;
  reboot: boolean;
  onPanic?: "end" | "continue";
  json?: true;
  gdb?: number;
  device?: MachineOptions;
}

const DISK_HELP =
  "a disk: FILE[,format=raw|qcow2][,readonly][,cache=writeback|none|writethrough|directsync|unsafe][,error=report|stop|ignore]" +
  "[,iops=N][,iops-burst=N][,bps=SIZE][,bps-burst=SIZE][,serial=TEXT]; may be repeated";

const addDisk = (text: string, before: DiskOptions[] = []) => [...before, parseDisk(text)];

const addPmem = (text: string, before: PmemOptions[] = []) => [...before, parsePmem(text)];

/** Adds them to a command. */
export function addRunOptions(command: Command): Command {
  return command
    .option("--accel <name>", "what runs the guest's code: auto, kvm or soft", parseAccelerator)
    .option("--cpu <model>", "the processor's model, such as x86-64-v2 or x86-64-v3")
    .option("--cpus <n>", "vCPUs: N[,sockets=S][,cores=C][,threads=T]", parseCpus)
    .option("--memory <size>", "SIZE[,hugepages=2M|transparent][,file=F][,mergeable]", parseMemory)
    .option("--numa <node>", "a NUMA node: SIZE,cpus=0-1[,distances=10:20]; repeated for each", parseNode)
    .option("--pin <vcpu>", "run a vCPU on these host processors: VCPU=0-3:8; may be repeated", parsePin)
    .option("--kernel <file>", "boot this kernel instead of an image")
    .option("--initrd <file>", "with this initial RAM disk")
    .option("--append <text>", "the kernel's command line, or what is added to the image's")
    .option("--disk <file>", DISK_HELP, addDisk)
    .option(
      "--net <network>",
      "nat[,hostfwd=tcp:127.0.0.1:8080-:80][,restrict][,loopback], switch=NAME[,vlan=N][,trunk=N:N-N][,filter=RULES], bridge=NAME[,ip=ADDRESS][,dhcp=ADDRESS][,filter=RULES], tap,ifname=NAME[,vhost=on|off], tap,fd=N[:N], macvtap=DEVICE[,mode=MODE], stream,path=SOCKET[,server], dgram,local=PLACE,remote=PLACE, vhost-user,path=SOCKET or none; each with mac=ADDRESS,mtu=N,queues=N,pcap=FILE,inbound=RATE,outbound=RATE; may be repeated",
      addNetwork,
    )
    .option("--pmem <file>", "persistent memory: FILE[,share=off]; may be repeated", addPmem)
    .option("--share <folder>", "a folder of the host: HOSTDIR:TAG[:ro]; may be repeated", parseShare)
    .addOption(
      new Option("--serial <place>", "where the console is: stdio, file:F, pty or none")
        .argParser(parseSerial)
        .default({ to: "stdio" } satisfies SerialPlace, "stdio"),
    )
    .option("--name <name>", "what the machine is called, also as a host name")
    .option("--rm", "keep nothing of the machine's disk at its end, although it has a name")
    .option("--qmp <socket>", "speak QMP on this Unix socket")
    .option("--no-reboot", "end when the guest resets the machine, instead of letting it begin anew")
    .addOption(new Option("--on-panic <what>", "what a panic of the guest's kernel is").choices(["end", "continue"]))
    .option("--json", "print what becomes of the machine as lines of JSON; of a command, all that it gave")
    .option("--gdb <port>", "let GDB attach here: target remote :PORT", parseGdbPort)
    .option(
      "--device <name>",
      "isa-debug-exit[,iobase=0xf4], pc-testdev, or pci-serial with file=F or pty; may be repeated",
      parseDevice,
    );
}

/** What the flags mean to the library. */
export function machineOptions(image: string | undefined, flags: RunFlags): MachineOptions {
  const { device, disk, share, gdb, memory, numa, pin, cpus, reboot, serial, json, net, rm, ...same } = flags;
  const affinity = affinityOf(pin ?? []);
  return {
    ...same,
    ...device,
    ...memory,
    ...(disk !== undefined && { disks: disk }),
    ...(net !== undefined && { networks: net }),
    ...(share !== undefined && { shares: share }),
    ...((cpus ?? affinity.length > 0) && {
      cpus: { ...(cpus ?? { count: 1 }), ...(affinity.length > 0 && { affinity }) },
    }),
    ...(numa !== undefined && { numa }),
    ...(gdb !== undefined && { gdbPort: gdb }),
    ...(serial.to !== "stdio" && serial.to !== "none" && { serial }),
    ...(rm && { ephemeral: true }),
    ...(!reboot && { onReset: "end" }),
    ...(image !== undefined && { image }),
  };
}

function addNetwork(text: string, before: NetworkOptions[] = []): NetworkOptions[] {
  const network = parseNetwork(text, "--net");
  return network === undefined ? before : [...before, network];
}

/** The folder's name may have colons in it, so its end is looked at. */
function parseShare(text: string, before: ShareOptions[] = []): ShareOptions[] {
  const found = /^(.+?):([^:]+)(:ro)?$/.exec(text.endsWith(":rw") ? text.slice(0, -3) : text);
  if (found === null) throw new VmmError("VMM_CONFIG", `--share ${text}: a folder and a tag, HOSTDIR:TAG[:ro]`);
  return [...before, { folder: found[1]!, tag: found[2]!, readonly: found[3] !== undefined }];
}

function parseGdbPort(text: string): number {
  return parseCount(text, "--gdb");
}

function parseDevice(text: string, before: MachineOptions = {}): MachineOptions {
  const name = text.split(",")[0];
  switch (name) {
    case "isa-debug-exit": {
      const { named } = parseFields(text, "--device", ["iobase"]);
      const port = Number(named.get("iobase") ?? 0xf4);
      if (!Number.isInteger(port) || port < 0 || port > 0xffff) {
        throw new VmmError("VMM_CONFIG", `--device ${text}: iobase is a port from 0 to 0xffff`);
      }
      return { ...before, debugExitPort: port };
    }
    case "pc-testdev":
      parseFields(text, "--device", []);
      return { ...before, testDevice: true };
    case "pci-serial": {
      const { named } = parseFields(text, "--device", ["file", "pty"]);
      const path = named.get("file");
      const isPty = parseSwitch(named.get("pty"), "pty");
      if (path === "" || isPty === (path !== undefined)) {
        throw new VmmError("VMM_CONFIG", `--device ${text}: a serial card leads to file=F or to pty`);
      }
      const target = path === undefined ? ({ to: "pty" } as const) : ({ to: "file", path } as const);
      return { ...before, serialCards: [...(before.serialCards ?? []), target] };
    }
    default:
      throw new VmmError("VMM_CONFIG", `--device ${text}: there is isa-debug-exit, pc-testdev and pci-serial`);
  }
}
