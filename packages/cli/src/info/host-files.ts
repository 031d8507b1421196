/** What a host tells about itself in files, behind an interface so that tests can pretend other hosts. */

import { closeSync, existsSync, openSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export interface HostFiles {
  /** A file's bytes; undefined when there is none, or none for this user. */
  bytes(path: string): Uint8Array | undefined;
  /** The names in a folder; none when there is no folder. */
  list(path: string): string[];
  exists(path: string): boolean;
  /** Opens a device for reading and writing: undefined when that works, else the error's code. */
  refusal(path: string): string | undefined;
}

/** The files below a folder, by default the real ones. */
export function realFiles(root = "/"): HostFiles {
  const at = (path: string) => join(root, path);
  return {
    bytes: (path) => orUndefined(() => readFileSync(at(path))),
    list: (path) => orUndefined(() => readdirSync(at(path))) ?? [],
    exists: (path) => existsSync(at(path)),
    refusal: (path) => {
      try {
        closeSync(openSync(at(path), "r+"));
        return undefined;
      } catch (error) {
        return (error as NodeJS.ErrnoException).code ?? String(error);
      }
    },
  };
}

function orUndefined<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

/** A file's text without the line end; undefined when it cannot be read. */
export function text(files: HostFiles, path: string): string | undefined {
  const bytes = files.bytes(path);
  return bytes && new TextDecoder().decode(bytes).trimEnd();
}

/** A file that holds one decimal number. */
export function number(files: HostFiles, path: string): number | undefined {
  const value = text(files, path);
  return value !== undefined && /^-?\d+$/.test(value) ? Number(value) : undefined;
}
