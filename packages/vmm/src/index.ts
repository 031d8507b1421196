/** One virtual machine as a library: its configuration, its images, its life, commands run inside. {@link Machine} is where to begin. */

export type { MemoryBacking, NumaNode } from "@lodge/machine";
export {
  ACCELERATORS,
  type Accelerator,
  automatic,
  type Choice,
  chooseAccelerator,
  parseAccelerator,
} from "./accelerator.ts";
export type { GuestProcess } from "./agent/channel.ts";
export type { CommandOptions } from "./agent/job.ts";
export { parseCount, parseFields, parseSwitch } from "./configuration/fields.ts";
export { type NetworkOptions, parseNetwork } from "./configuration/networks.ts";
export type { CpuOptions, MachineOptions, ShareOptions } from "./configuration/options.ts";
export { type PmemOptions, parsePmem } from "./configuration/pmem.ts";
export { formatSize, parseSize } from "./configuration/size.ts";
export type { AttachedDisk, DiskError } from "./disks/attached-disk.ts";
export type { DiskJobs, JobTarget, JobTold } from "./disks/disk-jobs.ts";
export { type DiskOptions, parseDisk } from "./disks/options.ts";
export { VmmError, type VmmErrorCode } from "./errors.ts";
export { type KeptImage, keptImages, removeKept } from "./images/kept.ts";
export { type Image, type PrepareOptions, prepareImage, RECIPES } from "./images/store.ts";
export type { LifeEvent, MachineEnd } from "./life.ts";
export { describeEnd, type ExecOptions, type ExecResult, Machine, type SpawnOptions } from "./machine.ts";
export type { AttachedNetwork } from "./network.ts";
export type { SerialTarget } from "./serial.ts";
