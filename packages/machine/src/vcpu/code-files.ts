/** Where the software processor keeps what it made of guests' code for later ones: files that are checked before use. */

import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { CodeStore } from "@lodge/softkvm";
import { CacheFiles } from "../cache-files.ts";
import { engineCode } from "./engine-code.ts";

/** One is some 30 MiB for a distribution's kernel. */
const MOST_FILES = 4;
const DIGEST_BYTES = 32;

export class CodeFiles implements CodeStore {
  readonly engine = engineCode();
  readonly #files: CacheFiles;
  readonly #version: string;

  constructor(folder: string, version = softwareVersion()) {
    this.#files = new CacheFiles(folder, MOST_FILES);
    this.#version = version;
  }

  get(key: string): Uint8Array<ArrayBuffer> | undefined {
    const name = this.#name(key);
    const file = this.#files.get(name);
    if (file === undefined) return undefined;
    const content = file.subarray(DIGEST_BYTES);
    if (digest(content).equals(file.subarray(0, DIGEST_BYTES))) return content;
    this.#files.drop(name);
    return undefined;
  }

  keep(key: string, bytes: Uint8Array): void {
    this.#files.keep(this.#name(key), digest(bytes), bytes);
  }

  drop(key: string): void {
    this.#files.drop(this.#name(key));
  }

  #name(key: string): string {
    return digest(`${this.#version}\n${key}`).toString("hex");
  }
}

const digest = (bytes: Uint8Array | string): Buffer => createHash("sha256").update(bytes).digest();

/**
 * What tells the software processor's code from that of another version: the package's version, and of each file its size and
 * when it was changed, as sources that are worked on keep their version. With the engine, which decides what there is.
 */
function softwareVersion(): string {
  const folder = dirname(fileURLToPath(import.meta.resolve("@lodge/softkvm")));
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).sort();
  const states = files.map((name) => {
    const { size, mtimeMs } = statSync(join(folder, name));
    return `${name} ${size} ${mtimeMs}`;
  });
  const { version } = JSON.parse(readFileSync(join(folder, "../package.json"), "utf8"));
  return [process.version, process.arch, version, ...states].join("\n");
}
