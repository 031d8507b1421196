/** The options of `lodge run`, from text to what the library takes. */

import {
  type Accelerator,
  type CpuOptions,
  type DiskOptions,
  type MachineOptions,
  parseAccelerator,
  parseCount,
  parseFields,
  parseSwitch,
  VmmError,
} from "@lodge/vmm";
import { type Command, InvalidArgumentError } from "commander";

export interface RunFlags {
  accel?: Accelerator;
  cpu?: string;
  cpus?: CpuOptions;
  memory?: string;
  kernel?: string;
  initrd?: string;
  append?: string;
  disk: DiskOptions[];
  gdb?: number;
  device?: MachineOptions;
}

/** Adds them to a command. */
export function addRunOptions(command: Command): Command {
  return command
    .option("--accel <name>", "what runs the guest's code: auto, kvm or soft", checked(parseAccelerator))
    .option("--cpu <model>", "the processor's model, such as x86-64-v2 or x86-64-v3")
    .option("--cpus <n>", "vCPUs: N[,sockets=S][,cores=C][,threads=T]", checked(parseCpus))
    .option("--memory <size>", "the guest's memory, such as 512M or 4G")
    .option("--kernel <file>", "boot this kernel instead of an image")
    .option("--initrd <file>", "with this initial RAM disk")
    .option("--append <text>", "the kernel's command line, or what is added to the image's")
    .option("--disk <file>", "a raw disk: FILE[,readonly][,serial=TEXT]; may be repeated", checked(parseDisk), [])
    .option("--gdb <port>", "let GDB attach here: target remote :PORT", checked(parseGdbPort))
    .option("--device <name>", "isa-debug-exit[,iobase=0xf4] or pc-testdev", checked(parseDevice), {});
}

/** commander takes a refusal only as an error of its own. */
function checked<T>(parse: (text: string, before: T) => T): (text: string, before: T) => T {
  return (text, before) => {
    try {
      return parse(text, before);
    } catch (error) {
      if (error instanceof VmmError) throw new InvalidArgumentError(error.message);
      throw error;
    }
  };
}

function parseCpus(text: string): CpuOptions {
  const { value, named } = parseFields(text, "--cpus", ["sockets", "cores", "threads"]);
  const arranged = [...named].map(([name, count]) => [name, parseCount(count, `--cpus ${name}`)]);
  return { count: parseCount(value, "--cpus"), ...Object.fromEntries(arranged) };
}

function parseDisk(text: string, before: DiskOptions[]): DiskOptions[] {
  const { value: file, named } = parseFields(text, "--disk", ["format", "readonly", "serial"]);
  const format = named.get("format");
  if (format !== undefined && format !== "raw") {
    throw new VmmError("VMM_CONFIG", `--disk ${text}: format ${format}; it is raw, the others are to come`);
  }
  const serial = named.get("serial");
  return [
    ...before,
    { file, readonly: parseSwitch(named.get("readonly"), "readonly"), ...(serial !== undefined && { serial }) },
  ];
}

function parseGdbPort(text: string): number {
  return parseCount(text, "--gdb");
}

function parseDevice(text: string, before: MachineOptions): MachineOptions {
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
    default:
      throw new VmmError("VMM_CONFIG", `--device ${text}: there is isa-debug-exit and pc-testdev`);
  }
}
