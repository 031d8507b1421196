/** Debian's binutils as an assembler, with what it made kept on disk. */

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempDisposableSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { hex } from "../check.ts";
import { type AssembledGuest, assemblyOf, bitsOf, type Guest } from "../guest.ts";
import { CODE } from "../layout.ts";

/** A guest as it is kept: the code in base64. */
export interface Stored {
  code: string;
  labels: Record<string, number>;
}

/** Where assembled guests are kept: LODGE_ASSEMBLED, or under the workspace's node_modules. */
export function cacheDirectory(): string {
  const { LODGE_ASSEMBLED } = process.env;
  return LODGE_ASSEMBLED ?? join(import.meta.dirname, "../../../../node_modules/.cache/lodge-assembly");
}

export function assemble(guest: Guest): AssembledGuest {
  const { code, labels } = assembleStored(guest);
  return { code: Uint8Array.from(Buffer.from(code, "base64")), labels };
}

export function assembleStored(guest: Guest): Stored {
  const file = join(cacheDirectory(), `${contentKey(guest)}.json`);
  const cached = read(file);
  if (cached !== undefined) return cached;
  const stored = runBinutils(guest);
  keep(file, JSON.stringify(stored));
  return stored;
}

/** Changes with everything that the result depends on. */
export function contentKey(guest: Guest): string {
  return createHash("sha256")
    .update(`${hex(CODE)}\n${assemblyOf(guest)}`)
    .digest("hex")
    .slice(0, 32);
}

function runBinutils(guest: Guest): Stored {
  using dir = mkdtempDisposableSync(join(tmpdir(), "lodge-assembly-"));
  const path = (name: string) => join(dir.path, name);
  const wide = bitsOf(guest.mode) === 64;
  const run = (tool: string, ...args: string[]) => execFileSync(tool, args, { encoding: "utf8", stdio: "pipe" });
  writeFileSync(path("guest.s"), assemblyOf(guest));
  run("as", wide ? "--64" : "--32", "-o", path("guest.o"), path("guest.s"));
  run(
    "ld",
    ...["-m", wide ? "elf_x86_64" : "elf_i386", "-Ttext", hex(CODE), "-e", hex(CODE), "--build-id=none"],
    ...["-o", path("guest"), path("guest.o")],
  );
  run("objcopy", "-O", "binary", "-j", ".text", path("guest"), path("guest.bin"));
  // "0000000000001006 t label"
  const labels = [...run("nm", path("guest")).matchAll(/^([0-9a-f]+) [tTa] (\w+)$/gm)].map(
    ([, address, name]) => [name!, Number.parseInt(address!, 16)] as const,
  );
  return { code: readFileSync(path("guest.bin"), "base64"), labels: Object.fromEntries(labels) };
}

function read(file: string): Stored | undefined {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** Renamed into place, as two runs may keep the same guest at once. A file system that cannot be written keeps nothing. */
function keep(file: string, text: string): void {
  const fresh = `${file}.${process.pid}`;
  try {
    mkdirSync(cacheDirectory(), { recursive: true });
    writeFileSync(fresh, text);
    renameSync(fresh, file);
  } catch (error) {
    if (!["EROFS", "EACCES", "EPERM"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
  }
}
