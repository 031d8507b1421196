/**
 * The rules of the house: which package may import which. DESIGN: imports only go down the list, nothing reaches into
 * another package past its exports, what runs in a browser needs no Node.
 *
 * Run as a program, it draws docs/architecture.md's picture anew.
 */

import { readFileSync, writeFileSync } from "node:fs";
import { join, posix } from "node:path";
import { type Package, readPackages, type SourceFile } from "./tree.ts";

/** From the roof down. A package imports from lines below its own only. */
export const LAYERS = [
  "cli",
  "web",
  "host",
  "vmm",
  "machine",
  "devices",
  "storage",
  "network",
  "softkvm",
  "kvm",
  "linux",
];

/** What a browser can run: the entry as others import it, its folder, and what lies in there for Linux only. */
const PURE = [
  { entry: "@lodge/kvm", folder: "packages/kvm/src/", except: "packages/kvm/src/linux/" },
  { entry: "@lodge/softkvm", folder: "packages/softkvm/src/", except: undefined },
];

const SCOPE = "@lodge/";

/** Each breach of the rules in one line that names the file. */
export function breaches(packages: Package[]): string[] {
  return packages.flatMap((one) => [
    ...layerBreaches(one),
    ...one.files.flatMap((file) => file.imports.flatMap((to) => importBreaches(packages, one, file, to))),
    ...declarationBreaches(one),
  ]);
}

/** A package's name without the scope. */
export function shortName(name: string): string {
  return name.startsWith(SCOPE) ? name.slice(SCOPE.length) : name;
}

function layer(name: string): number {
  return LAYERS.indexOf(shortName(name));
}

function layerBreaches({ folder, manifest: { name } }: Package): string[] {
  if (folder !== `packages/${shortName(name)}`) return [`${folder}: its package is named ${name}`];
  if (layer(name) < 0) return [`${folder}: not on the list of tools/architecture.ts; give it its place there`];
  return [];
}

function importBreaches(packages: Package[], from: Package, file: SourceFile, to: string): string[] {
  const because = (why: string) => [`${file.path} imports ${to}: ${why}`];
  if (to.startsWith(".")) {
    const target = posix.join(posix.dirname(file.path), to);
    if (!target.startsWith(`${from.folder}/`)) return because("a relative import stays in its package");
    if (isPure(file.path) && !isPure(target)) return because("this part runs in browsers, that one does not");
    return [];
  }
  if (isPure(file.path) && !PURE.some(({ entry }) => entry === to)) {
    return because("this part runs in browsers; it may import only what does");
  }
  if (to.startsWith("node:")) return [];

  const name = packageName(to);
  const { dependencies = {}, devDependencies = {} } = from.manifest;
  if (!(name in dependencies) && !(isTest(file.path) && name in devDependencies)) {
    return because(`${name} is not among the dependencies of ${from.folder}/package.json`);
  }
  if (!name.startsWith(SCOPE)) return [];
  if (layer(name) <= layer(from.manifest.name)) return because("imports only go down the list");
  const target = packages.find(({ manifest }) => manifest.name === name);
  if (target === undefined) return because("there is no such package");
  const entry = to === name ? "." : `.${to.slice(name.length)}`;
  if (!(entry in (target.manifest.exports ?? {}))) return because(`${name} does not export ${entry}`);
  return [];
}

function declarationBreaches({ folder, manifest, files }: Package): string[] {
  const used = (some: SourceFile[]) => new Set(some.flatMap(({ imports }) => imports.map(packageName)));
  const inSources = used(files.filter(({ path }) => !isTest(path)));
  const inTests = used(files.filter(({ path }) => isTest(path)));
  return [
    ...Object.keys(manifest.dependencies ?? {})
      .filter((name) => !inSources.has(name))
      .map((name) => `${folder}/package.json declares ${name}, which no source of it imports`),
    ...Object.keys(manifest.devDependencies ?? {})
      .filter((name) => !inTests.has(name))
      .map((name) => `${folder}/package.json declares ${name}, which no test of it imports`),
  ];
}

/** The package of a specifier: `@lodge/kvm/linux` → `@lodge/kvm`. */
function packageName(specifier: string): string {
  return specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
}

/** Tests and what only tests use: they run on Node, whatever they test. */
function isTest(path: string): boolean {
  return path.endsWith(".test.ts") || path.includes("/testing/") || path.includes("/conformance/");
}

function isPure(path: string): boolean {
  if (isTest(path)) return false;
  return PURE.some(
    ({ folder, except }) => path.startsWith(folder) && !(except !== undefined && path.startsWith(except)),
  );
}

/** The house as a drawing: one floor for each package, from the roof down, with what it imports. */
export function picture(packages: Package[]): string {
  const floors = packages
    .toSorted((a, b) => layer(a.manifest.name) - layer(b.manifest.name))
    .map(({ manifest: { name, description = "", dependencies = {} } }) => {
      const imports = Object.keys(dependencies).map(shortName).join(", ") || "nothing";
      return [`${shortName(name).padEnd(9)}${description}`, `${" ".repeat(9)}imports ${imports}`];
    });
  const width = Math.max(...floors.flat().map((line) => line.length));
  const edge = (left: string, right: string) => left + "─".repeat(width + 2) + right;
  const rows = floors.map((lines) => lines.map((line) => `│ ${line.padEnd(width)} │`).join("\n"));
  return [edge("┌", "┐"), rows.join(`\n${edge("├", "┤")}\n`), edge("└", "┘")].join("\n");
}

/** The page, and the fenced block in it that the picture stands in. */
export const PAGE = "docs/architecture.md";
export const PICTURE = /(?<=^```text\n)[^`]*(?=\n```$)/m;

if (import.meta.main) {
  const page = join(import.meta.dirname, "..", PAGE);
  writeFileSync(page, readFileSync(page, "utf8").replace(PICTURE, picture(readPackages(join(page, "../..")))));
}
