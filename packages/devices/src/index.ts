/** Device models. Each is given what it needs and knows nothing of buses, PCI or KVM. */

export { ByteRing } from "./byte-ring.ts";
export { DeviceError, type DeviceErrorCode } from "./errors.ts";
export { type GuestRam, MappedRam, type RamPiece, type SharedRam } from "./ram.ts";
export type { SavedState } from "./state.ts";
export * from "./vcpu-side.ts";
export * from "./virtio/index.ts";
