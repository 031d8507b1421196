/** Kernels of a few instructions for tests, from assembly or C. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";

/** Why none can be made here, for `skip`. */
export const noKernel = spawnSync("gcc", ["--version"]).error === undefined ? false : "gcc is not installed";

/** Assembles a kernel, and returns its file, which has symbols. */
export function assemble(source: string, directory: string, name: string): string {
  return build(source, "assembler", join(directory, name));
}

/** Compiles a kernel of this folder. */
export function compile(source: string, directory: string): string {
  return build(readFileSync(join(import.meta.dirname, source), "utf8"), "c", join(directory, source.slice(0, -2)));
}

function build(source: string, language: string, file: string): string {
  const code = [
    "-O1",
    "-ffreestanding",
    "-fno-stack-protector",
    "-fno-pic",
    "-mno-red-zone",
    "-mno-sse",
    "-Wall",
    "-Werror",
  ];
  const link = ["-nostdlib", "-static", "-no-pie", "-Wl,-N,-Ttext=0x100000,--build-id=none"];
  const { status, stderr } = spawnSync("gcc", ["-x", language, "-", "-o", file, ...code, ...link], { input: source });
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
