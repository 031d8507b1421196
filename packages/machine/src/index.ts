/** The PC: memory map, buses, interrupt wiring, boot. {@link Pc} is where to begin. */

export type { BootContent, BootSource } from "./boot/boot-source.ts";
export type { BootModule, UnpackedKernels } from "./boot/loader.ts";
export { CacheFiles } from "./cache-files.ts";
export { type DebugExit, Debugging } from "./debugging.ts";
export type { ByteSink, CpuDescription, PcDescription } from "./description.ts";
export { MachineLimits } from "./description.ts";
export { MachineError, type MachineErrorCode } from "./errors.ts";
export type { MemoryBacking } from "./memory/backing.ts";
export type { NumaNode } from "./memory/nodes.ts";
export { Pc, type PcEnd, type PcEvents } from "./pc.ts";
export type { SerialInput } from "./serial-input.ts";
export type { Topology } from "./vcpu/cpuid.ts";
export type { Registers } from "./vcpu/protocol.ts";
