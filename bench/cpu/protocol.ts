/** What a program of guest/runtime.c says to its monitor. */

import { Decoder } from "../../packages/softkvm/src/decode/decoder.ts";
import { format } from "../../packages/softkvm/src/decode/format.ts";
import { Instruction } from "../../packages/softkvm/src/decode/instruction.ts";

export const DEBUG_PORT = 0xe9;
export const EXIT_PORT = 0xf4;
export const MEMORY_BYTES = 160 * 2 ** 20;

/** How a run of a program went. */
export interface Outcome {
  /** From the start of the workload to its end. */
  ms?: number;
  checksum?: string;
  /** Instead: what went wrong. */
  failure?: string;
}

/** Takes the bytes that a program writes. */
export class Protocol {
  readonly outcome: Outcome = {};
  #start = 0;
  #line = "";

  take(byte: number, nowMs: number): void {
    const char = String.fromCharCode(byte);
    if (char === "<") this.#start = nowMs;
    else if (char === ">") this.outcome.ms = nowMs - this.#start;
    else if (char === "\n") this.#end();
    else this.#line += char;
  }

  #end(): void {
    const line = this.#line;
    if (line.startsWith("!")) this.outcome.failure = describeException(line);
    else if (line.startsWith("?")) this.outcome.failure = line.slice(1);
    else this.outcome.checksum = line;
  }
}

const VECTORS: Record<number, string> = { 0: "#DE", 6: "#UD", 7: "#NM", 8: "#DF", 13: "#GP", 14: "#PF", 16: "#MF" };

/** `!`, vector (2 digits), error code (8), RIP (16), CR2 (16), 15 bytes of code. */
function describeException(line: string): string {
  const vector = Number.parseInt(line.slice(1, 3), 16);
  const rip = BigInt(`0x${line.slice(11, 27)}`);
  const code = Buffer.alloc(32, line.slice(43), "hex");
  const instruction = new Instruction();
  new Decoder().decode(code, 0, 15, 64, instruction);
  const name = VECTORS[vector] ?? `exception ${vector}`;
  return `${name} at 0x${rip.toString(16)}: ${format(instruction, rip)}`;
}
