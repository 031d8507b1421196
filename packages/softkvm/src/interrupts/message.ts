/** An interrupt on its way over the APIC bus, and what messages and redirection entries say about one. */

import { DeliveryMode, Shorthand } from "./lapic-registers.ts";

/** Mutable, so that each sender reuses its own: interrupts are sent without allocating. */
export interface InterruptMessage {
  vector: number;
  /** {@link DeliveryMode}. */
  deliveryMode: number;
  logical: boolean;
  /** Level-triggered, and whether it is asserted. */
  level: boolean;
  asserted: boolean;
  /** {@link Shorthand}. */
  shorthand: number;
  /** 8 bits, or 32 for x2APIC. */
  destination: number;
  /** One processor of the destination only, whatever the delivery mode (Intel SDM vol. 3, 11.11.1). */
  redirectionHint: boolean;
}

export function emptyMessage(): InterruptMessage {
  return {
    vector: 0,
    deliveryMode: DeliveryMode.FIXED,
    logical: false,
    level: false,
    asserted: true,
    shorthand: Shorthand.NONE,
    destination: 0,
    redirectionHint: false,
  };
}

/** Message address and data (Intel SDM vol. 3, 11.11). */
const MsiAddress = { LOGICAL: 1 << 2, REDIRECTION_HINT: 1 << 3, DESTINATION_SHIFT: 12 } as const;
const MsiData = { VECTOR: 0xff, DELIVERY_MODE: 0x700, LEVEL: 1 << 15 } as const;

/** Bits 31:8 of the upper address are bits 31:8 of the destination, where 32-bit ids are enabled (api.rst 4.70). */
const WIDE_DESTINATION = 0xffffff00 | 0;

/** What a message-signalled interrupt says. With `wideIds`, destinations have 32 bits. */
export function decodeMsi(
  into: InterruptMessage,
  addressLow: number,
  addressHigh: number,
  data: number,
  wideIds: boolean,
): void {
  const low = (addressLow >> MsiAddress.DESTINATION_SHIFT) & 0xff;
  into.destination = wideIds ? ((addressHigh & WIDE_DESTINATION) | low) >>> 0 : low;
  into.logical = (addressLow & MsiAddress.LOGICAL) !== 0;
  into.redirectionHint = (addressLow & MsiAddress.REDIRECTION_HINT) !== 0;
  into.vector = data & MsiData.VECTOR;
  into.deliveryMode = data & MsiData.DELIVERY_MODE;
  into.level = (data & MsiData.LEVEL) !== 0;
  into.asserted = true;
  into.shorthand = Shorthand.NONE;
}

/** The redirection table entry of an IOAPIC pin (82093AA datasheet, 3.2.4): low and high word. */
export const Redirection = {
  VECTOR: 0xff,
  DELIVERY_MODE: 0x700,
  LOGICAL: 1 << 11,
  DELIVERY_STATUS: 1 << 12,
  REMOTE_IRR: 1 << 14,
  LEVEL: 1 << 15,
  MASKED: 1 << 16,
  /** In the high word. */
  DESTINATION_SHIFT: 24,
} as const;

export function decodeRedirection(into: InterruptMessage, low: number, high: number): void {
  into.destination = high >>> Redirection.DESTINATION_SHIFT;
  into.logical = (low & Redirection.LOGICAL) !== 0;
  into.redirectionHint = false;
  into.vector = low & Redirection.VECTOR;
  into.deliveryMode = low & Redirection.DELIVERY_MODE;
  into.level = (low & Redirection.LEVEL) !== 0;
  into.asserted = true;
  into.shorthand = Shorthand.NONE;
}
