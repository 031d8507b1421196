/** The packages of a workspace as they are: their manifests, their files, what each file imports. */

import { globSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** A package.json, as far as it is used here. */
export interface Manifest {
  name: string;
  version: string;
  description?: string;
  exports?: Record<string, string>;
  bin?: Record<string, string>;
  dependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
}

export interface SourceFile {
  /** Path in the workspace, such as `packages/linux/src/index.ts`. */
  path: string;
  /** The specifiers that it imports, as written. */
  imports: string[];
}

export interface Package {
  /** Path in the workspace, such as `packages/linux`. */
  folder: string;
  manifest: Manifest;
  files: SourceFile[];
}

export function readPackages(root: string): Package[] {
  return globSync("packages/*/package.json", { cwd: root })
    .map((path) => dirname(path))
    .sort()
    .map((folder) => ({
      folder,
      manifest: JSON.parse(readFileSync(join(root, folder, "package.json"), "utf8")),
      files: globSync(`${folder}/**/*.{ts,js}`, { cwd: root, exclude: ["**/node_modules/**", "**/dist/**"] })
        .sort()
        .map((path) => ({ path, imports: importsOf(readFileSync(join(root, path), "utf8")) })),
    }));
}

/** A whole statement from its line's start on, then imports anywhere, then files that a Worker is started from. */
const FORMS = [
  /^(?:import|export)\b[^;"'`]*?\bfrom\s*["']([^"']+)["']/gm,
  /^import\s*["']([^"']+)["']/gm,
  /\bimport\s*\(\s*["'`]([^"'`]+)["'`]/g,
  /\bnew URL\(\s*["'`](\.[^"'`]+)["'`]\s*,\s*import\.meta\.url/g,
];

/**
 * The specifiers that a source imports, once each. It reads text, not syntax, and is right for sources that the
 * formatter has been over, where statements begin their lines; an import named in a comment counts too.
 */
export function importsOf(source: string): string[] {
  return [...new Set(FORMS.flatMap((form) => [...source.matchAll(form)].map((match) => match[1]!)))];
}
