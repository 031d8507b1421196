/** Device models. Each is given what it needs and knows nothing of buses, PCI or KVM. */

export { type GuestRam, MappedRam, type RamPiece } from "./ram.ts";
