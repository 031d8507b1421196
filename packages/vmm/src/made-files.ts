/** The files that a machine makes where its options name some that are not there: they go again when it does not begin. */

import { existsSync, rmSync } from "node:fs";
import type { MachineOptions } from "./configuration/options.ts";

export class MadeFiles implements Disposable {
  #paths: string[];

  /** Before any of them is made. */
  constructor({ memoryBacking, serial, serialCards = [] }: MachineOptions) {
    const lines = serial === undefined ? serialCards : [serial, ...serialCards];
    const named = [memoryBacking?.file, ...lines.map((line) => (line.to === "file" ? line.path : undefined))];
    this.#paths = named.filter((path) => path !== undefined).filter((path) => !existsSync(path));
  }

  /** The machine has begun. */
  keep(): void {
    this.#paths = [];
  }

  [Symbol.dispose](): void {
    for (const path of this.#paths) rmSync(path, { force: true });
  }
}
