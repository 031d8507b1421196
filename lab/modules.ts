/** Kernel modules: where they lie, what they need, and what the lab leaves off them. */

import { globSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { zstdDecompressSync } from "node:zlib";
import { LabError } from "./errors.ts";
import { runTool } from "./tools.ts";

/** All modules below a directory: from name (with _ for -, as the kernel compares them) to path. */
export type ModuleTree = ReadonlyMap<string, string>;

const canonical = (name: string) => name.replaceAll("-", "_");

export function readModuleTree(directory: string): ModuleTree {
  const tree = new Map<string, string>();
  for (const path of globSync("**/*.{ko,ko.xz,ko.zst}", { cwd: directory })) {
    tree.set(canonical(basename(path).replace(/\.ko(\.xz|\.zst)?$/, "")), join(directory, path));
  }
  return tree;
}

export function decompress(data: Buffer): Buffer {
  if (data.subarray(0, 6).equals(Buffer.from("fd377a585a00", "hex"))) {
    return runTool("xz", ["-dc"], { input: data });
  }
  if (data.length >= 4 && data.readUInt32LE(0) === 0xfd2fb528) return zstdDecompressSync(data);
  return data;
}

/** The names in the module's own `depends=` entry (section .modinfo: NUL-terminated strings). */
export function dependenciesOf(module: Buffer): string[] {
  const key = "\0depends=";
  const at = module.indexOf(key, 0, "latin1");
  if (at < 0) return [];
  const start = at + key.length;
  const names = module.toString("latin1", start, module.indexOf(0, start));
  return names === "" ? [] : names.split(",").map(canonical);
}

const signatureEnd = Buffer.from("~Module signature appended~\n");
const signatureInfoBytes = 12;

/**
 * Without the signature that kbuild appends (include/linux/module_signature.h: signature, 12 bytes of description whose
 * last four are its length, a magic line). Checking it takes the emulated processor longer than loading the module; Debian's
 * kernel loads unsigned ones as long as it is not locked down.
 */
export function withoutSignature(module: Buffer): Buffer {
  const magicAt = module.length - signatureEnd.length;
  if (magicAt < signatureInfoBytes || !module.subarray(magicAt).equals(signatureEnd)) return module;
  const signatureBytes = module.readUInt32BE(magicAt - 4);
  const end = magicAt - signatureInfoBytes - signatureBytes;
  if (end < 0) throw new LabError("BUILD", "a kernel module has a damaged signature");
  return module.subarray(0, end);
}

/**
 * Reads the wanted modules and all that they need, in loading order. A name that the kernel package does not have is taken
 * to be built in (or gone, like fscache, which is part of netfs since Linux 6.8); what is missed then fails at loading.
 */
export function collectModules(tree: ModuleTree, wanted: readonly string[], known: ReadonlySet<string> = new Set()) {
  const modules = new Map<string, Buffer>();
  const visit = (name: string) => {
    const path = tree.get(name);
    if (path === undefined || known.has(name) || modules.has(name)) return;
    const module = withoutSignature(decompress(readFileSync(path)));
    for (const dependency of dependenciesOf(module)) visit(dependency);
    modules.set(name, module);
  };
  for (const name of wanted) visit(canonical(name));
  return modules;
}
