/** Guests as they stand in the cases: assembly (GNU as, Intel syntax) and the mode that its first instruction runs in. */

/** `user` is ring 3 of long mode. */
export type Mode = "real" | "protected" | "long" | "user";

export interface Guest {
  readonly mode: Mode;
  readonly source: string;
}

/** A guest as bytes for address `CODE` of layout.ts, with the addresses of its labels. */
export interface AssembledGuest {
  readonly code: Uint8Array;
  readonly labels: Readonly<Record<string, number>>;
}

/** Starts in 16-bit real mode, all segments at 0. */
export const real = guestIn("real");
/** Starts in 32-bit protected mode without paging. */
export const protected32 = guestIn("protected");
/** Starts in ring 0 of long mode; the first 4 GiB are mapped to themselves. */
export const long = guestIn("long");
/** Starts in ring 3 of long mode; the first 4 GiB are mapped to themselves. */
export const user = guestIn("user");

/** The width of the first instruction. */
export function bitsOf(mode: Mode): 16 | 32 | 64 {
  return mode === "real" ? 16 : mode === "protected" ? 32 : 64;
}

/** What the assembler is given. */
export function assemblyOf(guest: Guest): string {
  return `.intel_syntax noprefix\n.code${bitsOf(guest.mode)}\n${guest.source}\n`;
}

function guestIn(mode: Mode) {
  return (parts: TemplateStringsArray, ...values: (number | bigint | string)[]): Guest => ({
    mode,
    source: String.raw({ raw: parts.raw }, ...values),
  });
}
