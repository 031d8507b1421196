/** Kernel modules: where they lie, what they need, and what the lab leaves off them. */

import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { zstdDecompressSync } from "node:zlib";
import { canonical, dependenciesOf, moduleName, withoutSignature } from "../packages/vmm/src/images/kernel-modules.ts";
import { runTool } from "./tools.ts";

/** All modules below a directory: from name (with _ for -, as the kernel compares them) to path. */
export type ModuleTree = ReadonlyMap<string, string>;

export function readModuleTree(directory: string): ModuleTree {
  const tree = new Map<string, string>();
  for (const path of globSync("**/*.{ko,ko.xz,ko.zst}", { cwd: directory })) {
    tree.set(moduleName(path), join(directory, path));
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
