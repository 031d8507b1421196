/** Where a machine's serial console leads, beside whoever listens in this program: a file, or a terminal of its own. */

import { closeSync, openSync, writeSync } from "node:fs";
import { PseudoTerminal } from "@lodge/linux";
import { VmmError } from "./errors.ts";

export type SerialTarget = { readonly to: "file"; readonly path: string } | { readonly to: "pty" };

export interface SerialLine extends Disposable {
  /** The file, or the terminal that programs open. */
  readonly path: string;
  write(bytes: Uint8Array): void;
  /** What is typed there. */
  onTyped: (bytes: Uint8Array) => void;
}

/** `failed` is told once when nothing more can be written. */
export function openSerial(target: SerialTarget, failed: (why: string) => void): SerialLine {
  return target.to === "file" ? toFile(target.path, failed) : toTerminal();
}

function toFile(path: string, failed: (why: string) => void): SerialLine {
  let fd: number;
  try {
    fd = openSync(path, "w");
  } catch (cause) {
    throw new VmmError("VMM_CONFIG", `serial file ${path}: ${(cause as Error).message}`, { cause });
  }
  let works = true;
  return {
    path,
    onTyped: () => {},
    write(bytes) {
      if (!works) return;
      try {
        for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
      } catch (error) {
        // A full disk, say: the machine goes on without it.
        works = false;
        failed(`serial file ${path}: ${(error as Error).message}; nothing more is written to it`);
      }
    },
    [Symbol.dispose]: () => closeSync(fd),
  };
}

function toTerminal(): SerialLine {
  const terminal = new PseudoTerminal();
  const line: SerialLine = {
    path: terminal.path,
    onTyped: () => {},
    // What nobody reads is lost once the terminal is full, as on a wire.
    write: (bytes) => void terminal.write(bytes),
    [Symbol.dispose]: () => terminal.close(),
  };
  terminal.watch((bytes) => line.onTyped(bytes));
  return line;
}
