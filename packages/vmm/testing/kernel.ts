/** Kernels of a few instructions for tests, from assembly. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";

/** Why none can be made here, for `skip`. */
export const noKernel = spawnSync("gcc", ["--version"]).error === undefined ? false : "gcc is not installed";

/** Assembles a kernel, and returns its file, which has symbols. */
export function assemble(source: string, directory: string, name: string): string {
  const file = join(directory, name);
  const args = ["-x", "assembler", "-", "-o", file, "-nostdlib", "-static", "-no-pie", "-Wl,-N,-Ttext=0x100000"];
  const { status, stderr } = spawnSync("gcc", args, { input: source });
  assert.equal(status, 0, String(stderr));
  return file;
}

/** Does what letters typed on COM1 tell it. */
export const OBEDIENT = readFileSync(join(import.meta.dirname, "obedient.S"), "utf8");

/** What a machine writes on its console, for whoever waits for some text. */
export class Transcript {
  text = "";
  #waiting: (() => void)[] = [];

  readonly write = (bytes: Uint8Array): void => {
    this.text += Buffer.from(bytes).toString("latin1");
    for (const wake of this.#waiting.splice(0)) wake();
  };

  /** Resolves when the text has been written, and takes everything up to its end. */
  async until(text: string): Promise<void> {
    while (!this.text.includes(text)) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.text = this.text.slice(this.text.indexOf(text) + text.length);
  }
}
