/** The kernel modules that an image carries: what they need, what they serve, and what we leave off them. */

import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { zstdDecompressSync } from "node:zlib";
import { VmmError } from "../errors.ts";
import { runProgram } from "./programs.ts";

export interface KernelModule {
  /** With _ for -, as the kernel compares names. */
  readonly name: string;
  readonly data: Buffer;
  readonly needs: readonly string[];
  /** Patterns of devices and names that this module serves. */
  readonly aliases: readonly string[];
}

export const canonical = (name: string) => name.replaceAll("-", "_");

export const moduleName = (path: string) => canonical(basename(path).replace(/\.ko(\.xz|\.zst)?$/, ""));

export const isModule = (path: string) => /\.ko(\.xz|\.zst)?$/.test(path);

/**
 * Reads the wanted modules and all that they need, in loading order. A name that none of the paths has is taken to be built
 * into the kernel.
 */
export async function collectModules(paths: readonly string[], wanted: readonly string[]): Promise<KernelModule[]> {
  const pathOf = new Map(paths.map((path) => [moduleName(path), path]));
  const modules = new Map<string, KernelModule>();
  const visit = async (name: string): Promise<void> => {
    const path = pathOf.get(name);
    if (path === undefined || modules.has(name)) return;
    const data = withoutSignature(await decompressed(await readFile(path)));
    const needs = dependenciesOf(data);
    for (const needed of needs) await visit(needed);
    modules.set(name, {
      name,
      data,
      needs: needs.filter((needed) => pathOf.has(needed)),
      aliases: values(data, "alias"),
    });
  };
  for (const name of wanted) await visit(canonical(name));
  return [...modules.values()];
}

async function decompressed(data: Buffer): Promise<Buffer> {
  if (data.subarray(0, 6).equals(Buffer.from("fd377a585a00", "hex"))) {
    return await runProgram("xz", ["-dc"], { input: data });
  }
  if (data.length >= 4 && data.readUInt32LE(0) === 0xfd2fb528) return zstdDecompressSync(data);
  return data;
}

/** The names in the module's own `depends=` entry. */
export function dependenciesOf(module: Buffer): string[] {
  return values(module, "depends").flatMap((names) => (names === "" ? [] : names.split(",").map(canonical)));
}

/** What the module says of itself under a key (section .modinfo: NUL-terminated strings `key=value`). */
function values(module: Buffer, key: string): string[] {
  const mark = `\0${key}=`;
  const found: string[] = [];
  for (let at = module.indexOf(mark, 0, "latin1"); at >= 0; at = module.indexOf(mark, at + 1, "latin1")) {
    const start = at + mark.length;
    found.push(module.toString("latin1", start, module.indexOf(0, start)));
  }
  return found;
}

const SIGNATURE_END = Buffer.from("~Module signature appended~\n");
const SIGNATURE_INFO_BYTES = 12;

/**
 * Without the signature that kbuild appends (include/linux/module_signature.h: signature, 12 bytes of description whose last
 * four are its length, a magic line). Checking it takes a processor in software longer than loading the module; Debian's
 * kernel loads unsigned ones as long as it is not locked down, and the package that they are from was verified.
 */
export function withoutSignature(module: Buffer): Buffer {
  const magicAt = module.length - SIGNATURE_END.length;
  if (magicAt < SIGNATURE_INFO_BYTES || !module.subarray(magicAt).equals(SIGNATURE_END)) return module;
  const end = magicAt - SIGNATURE_INFO_BYTES - module.readUInt32BE(magicAt - 4);
  if (end < 0) throw new VmmError("VMM_IMAGE", "a kernel module has a damaged signature");
  return module.subarray(0, end);
}

/**
 * What `modprobe` reads below /lib/modules/RELEASE. `modules` are in loading order, and so is, from right to left, what stands
 * behind each in modules.dep.
 */
export function moduleIndex(modules: readonly KernelModule[]): { dep: string; alias: string } {
  const file = (name: string) => `${name}.ko`;
  const dep = modules.map(({ name, needs }, index) => {
    const needed = new Set(needs);
    const before = modules.slice(0, index).toReversed();
    const all = before.filter((other) => {
      if (!needed.has(other.name)) return false;
      for (const further of other.needs) needed.add(further);
      return true;
    });
    return `${file(name)}: ${all.map((other) => file(other.name)).join(" ")}\n`;
  });
  const alias = modules.flatMap(({ name, aliases }) => aliases.map((pattern) => `alias ${pattern} ${name}\n`));
  return { dep: dep.join(""), alias: alias.join("") };
}
