/**
 * What a vCPU's thread has of devices: those of the chipset, and virtio's registers. The devices behind these, with disks and
 * networks, are the I/O thread's alone, so that other threads need not load them.
 */

export * from "./legacy/index.ts";
export { ByteRegisters, type InterruptLine, nothingThere, type Registers } from "./registers.ts";
export { DeviceType } from "./virtio/device.ts";
export type { RegisterEvents } from "./virtio/transport/driver-side.ts";
export { LEGACY_LENGTH, LegacyRegisters } from "./virtio/transport/legacy-registers.ts";
export { COMMON_LENGTH, NOTIFY_MULTIPLIER, type VirtioRegion, VirtioRegisters } from "./virtio/transport/registers.ts";
export type { VirtioRegistersHandle } from "./virtio/transport/shared.ts";
