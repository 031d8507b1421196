/**
 * Loads Lodge's own modules, some hundreds, in half the time that Node takes for them: one after the other, as functions
 * ({@link asFunction}), with what became of each kept in one file for all. A source that has changed since is read again, so that it
 * can be edited and run; what is not ours Node loads. Errors, debuggers and profiles see the sources.
 *
 * Who imports Lodge from a program of their own has Node's loader, but for the threads of vCPUs.
 */

import { readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";
import { isModuleNamespaceObject } from "node:util/types";
import { cachedDataVersionTag } from "node:v8";
import { Script } from "node:vm";
import { heedHints } from "../vcpu/hints.ts";
import { type Kept, KeptModules } from "./kept.ts";

type Exports = Readonly<Record<string, unknown>>;
type Body = (...parameters: unknown[]) => Exports;

export interface LoadOptions {
  /** The folder where what is compiled is kept from run to run. Undefined: nothing is kept. */
  readonly folder: string | undefined;
  /** What the file there is called: that of those who load much the same. */
  readonly set: string;
  /** A package that is loaded like ours, with what it gets in place of modules of Node's. */
  readonly guest?: { readonly name: string; readonly instead: ReadonlyMap<string, unknown> };
}

/** `name` is what the others import it by. */
export interface LoaderFile {
  readonly path: string;
  readonly name: string;
  readonly code: string;
  readonly compiled: Uint8Array | undefined;
}

const own = fileURLToPath(import.meta.url);
const ending = /\.\w+$/.exec(own)![0];
/** Where the packages are, in a clone as under node_modules. */
const packages = own.slice(0, own.lastIndexOf("/machine/") + 1);
const require = createRequire(import.meta.url);

let options: LoadOptions = { folder: undefined, set: "" };
let kept: KeptModules | undefined;
/** Undefined while it is being loaded. */
const modules = new Map<string, Exports | undefined>();
const resolved = new Map<string, string>();
/** What this thread had to compile; nothing where all was kept. */
const fresh: (Omit<Kept, "compiled"> & { readonly script: Script })[] = [];

/** For this thread, before it loads anything. */
export function beginLoading(wanted: LoadOptions): void {
  options = wanted;
  kept = wanted.folder === undefined ? undefined : KeptModules.open(wanted.folder, wanted.set, packages);
  modules.set(own, { beginLoading, keepCompiled, load, loadNamed, loaderItself });
}

/** What the module in this file exports. */
export function load(path: string): Exports {
  if (modules.has(path)) {
    const known = modules.get(path);
    if (known === undefined) throw new SyntaxError(`${path}: an import of it leads back to it`);
    return known;
  }
  modules.set(path, undefined);
  try {
    const body: Body = scriptOf(path).script.runInThisContext();
    const folder = folderOf(path);
    const find = (specifier: string) => importFrom(path, folder, specifier);
    const made = body(
      find,
      (specifier: string) => {
        const found = find(specifier);
        return isModuleNamespaceObject(found) || modules.has(resolved.get(specifier) ?? "")
          ? (found as Exports).default
          : found;
      },
      async (specifier: string) => find(specifier),
      new Meta(path),
    );
    modules.set(path, made);
    return made;
  } catch (error) {
    modules.delete(path);
    throw error;
  }
}

/** What the module exports that is called so outside of the packages, such as `@lodge/machine`. */
export function loadNamed(specifier: string): Exports {
  return importFrom(own, folderOf(own), specifier) as Exports;
}

/** This module in the form in which it loads others: a thread that begins with that need not ask Node's loader. */
export function loaderItself(): LoaderFile[] {
  return ["../vcpu/hints", "../cache-files", "./kept", "./loader"].map((stem) => {
    const name = `${stem}${ending}`;
    const path = relativeTo(folderOf(own), name);
    const { code, compiled } = scriptOf(path);
    // Only these bytes are posted with it.
    return { path, name, code, compiled: compiled?.slice() };
  });
}

/**
 * Keeps for the next run what this one had to compile; what it kept before has the functions that ran since then, too. `last`: the
 * thread ends, and Node keeps what it has compiled itself.
 */
export function keepCompiled(last = false): void {
  if (kept === undefined) return;
  const before = cachedDataVersionTag();
  if (before !== kept.engine) heedHints(false);
  if (fresh.length > 0 && cachedDataVersionTag() === kept.engine) {
    kept.add(fresh.map(({ script, ...rest }): Kept => ({ ...rest, compiled: script.createCachedData() })));
  }
  if (before !== kept.engine && !last) heedHints();
}

/** `import.meta`, as far as ours ask it. */
class Meta {
  readonly filename: string;

  constructor(filename: string) {
    this.filename = filename;
  }

  get dirname(): string {
    return folderOf(this.filename);
  }

  get url(): string {
    return pathToFileURL(this.filename).href;
  }

  resolve(specifier: string): string {
    return pathToFileURL(require.resolve(specifier)).href;
  }
}

function scriptOf(path: string): { script: Script; code: string; compiled: Uint8Array | undefined } {
  const { mtimeMs, size: bytes } = statSync(path);
  const known = kept?.get(path, mtimeMs, bytes);
  if (known !== undefined) {
    const script = new Script(known.code, { filename: path, cachedData: known.compiled });
    if (!script.cachedDataRejected) return { script, ...known };
  }
  const { asFunction } = require(`./rewrite${ending}`) as typeof import("./rewrite.ts");
  const code = asFunction(readFileSync(path, "utf8"), path.endsWith(".ts"));
  const script = new Script(code, { filename: path });
  if (kept !== undefined) fresh.push({ path, script, code, mtimeMs, bytes });
  return { script, code, compiled: undefined };
}

/** What `dirname` and `join` of node:path say, which read each path letter by letter, for some thousands of imports in a start. */
function folderOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/"));
}
function relativeTo(folder: string, specifier: string): string {
  let at = specifier.startsWith("./") ? 2 : 0;
  let found = folder;
  for (; specifier.startsWith("../", at); at += 3) found = folderOf(found);
  return `${found}/${specifier.slice(at)}`;
}

function importFrom(path: string, folder: string, specifier: string): unknown {
  if (specifier.startsWith("node:")) {
    const instead = path.startsWith(packages) ? undefined : options.guest?.instead.get(specifier);
    return instead ?? process.getBuiltinModule(specifier);
  }
  if (specifier.startsWith(".")) return load(relativeTo(folder, specifier));
  let found = resolved.get(specifier);
  if (found === undefined) {
    found = require.resolve(specifier);
    resolved.set(specifier, found);
  }
  const isOurs = specifier.startsWith("@lodge/") && found.startsWith(packages);
  return isOurs || specifier === options.guest?.name ? load(found) : require(found);
}
