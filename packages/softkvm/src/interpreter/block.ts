/** A block of decoded code: where it lies, and where it leads. */

import type { Instruction } from "../decode/instruction.ts";
import type { Region } from "./regions.ts";

export const PAGE = 4096;

export interface Block {
  /** Where its first byte is in linear memory. */
  readonly host: number;
  readonly length: number;
  readonly mode: number;
  /** Its first record. */
  readonly record: number;
  readonly count: number;
  /** The next page's place in linear memory, when an instruction reaches into it; else -1. */
  readonly secondPage: number;
  /** Where control goes from here by direct jumps; nothing where an instruction is TypeScript's. */
  readonly edges: Edges;
  /** The region that contains it, if there is one. */
  region: Region | undefined;
}

/** Places in linear memory, as if the neighbouring pages were the virtual ones: distances are what counts. */
export interface Edges {
  readonly taken?: number;
  readonly fallThrough?: number;
  /** Where what is called here comes back to. */
  readonly returns?: number;
}

export const NO_EDGES: Edges = {};

/** A number for a place in linear memory and a mode. */
export const keyOf = (host: number, mode: number): number => mode * 2 ** 33 + host;
/** Places go beyond what 32 bits with a sign hold. */
export const pageOf = (host: number): number => host - (host % PAGE);
export const pagesOf = ({ host, secondPage }: Block): number[] =>
  secondPage < 0 ? [pageOf(host)] : [pageOf(host), secondPage];

/** Where a block's last instruction leads, which ends at `end`; undefined for one that just stops. */
export function edgesOf(last: Instruction | undefined, end: number): Edges {
  if (last === undefined) return { fallThrough: end };
  const returns = last.form.mnemonic === "call" ? { returns: end } : NO_EDGES;
  const target = last.operands[last.operandCount - 1]!;
  if (last.operandCount === 0 || target.kind !== "rel") return returns;
  // Outside 64-bit code a prefix may cut the target to 16 bits, which distances do not show.
  if (last.bits === 32 && last.operandSize === 16) return returns;
  const taken = end + target.value;
  return last.form.flow === "branch" ? { taken, fallThrough: end } : { taken, ...returns };
}

/** A block in two pages stays with the interpreter; one whose first instruction is TypeScript's gains nothing. */
export function canBegin({ secondPage, count, edges }: Block): boolean {
  return secondPage < 0 && (count > 1 || edges.taken !== undefined);
}
