/**
 * What `npm pack` needs around it. In the tree, a package's exports point to its TypeScript sources; under node_modules
 * Node runs JavaScript only. So in a package's folder
 *
 *     node ../../tools/publish.ts build      (its prepack script) compiles the published files to dist/ and points
 *                                            package.json there; the original waits in package.json.source
 *     node ../../tools/publish.ts restore    (its postpack script) takes both back
 *
 * A build that was interrupted is taken back by the next one.
 */

import { execFileSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, relative } from "node:path";

const root = join(import.meta.dirname, "..");

/** A package.json with what is rewritten here; everything else passes through. */
export interface Publishable {
  files: string[];
  exports?: Record<string, string>;
  bin?: Record<string, string>;
  devDependencies?: Record<string, string>;
}

const compiled = (path: string) => /\.[jt]s$/.test(path) && !path.endsWith(".d.ts");

/** `./src/index.ts` → `./dist/src/index.js`. */
function built(path: string): string {
  return path.replace(/^(\.\/)?/, "./dist/").replace(/\.ts$/, ".js");
}

/** The package.json that is published in place of the one that the tree works with. */
export function published(source: Publishable): object {
  const { devDependencies: _, ...manifest } = source;
  const map = <T>(entries: Record<string, string>, to: (path: string) => T) =>
    Object.fromEntries(Object.entries(entries).map(([key, path]) => [key, to(path)]));
  return {
    ...manifest,
    ...(source.exports && {
      exports: map(source.exports, (path) => ({
        types: built(path).replace(/\.js$/, ".d.ts"),
        default: built(path),
      })),
    }),
    ...(source.bin && { bin: map(source.bin, built) }),
    files: ["dist"],
  };
}

/** tsc rewrites `.ts` in imports; a Worker's file is named in a URL, which it leaves alone. */
export function rewriteUrls(code: string): string {
  return code.replace(/(\bnew URL\(\s*["'`]\.[^"'`]+)\.ts(["'`]\s*,\s*import\.meta\.url)/g, "$1.js$2");
}

/** Compiles a package with what it imports, since its types come from the sources of other packages. */
function compile(folder: string, outDir: string): void {
  const config = join(outDir, "tsconfig.json");
  const compilerOptions = {
    noEmit: false,
    allowJs: true,
    declaration: true,
    rewriteRelativeImportExtensions: true,
    rootDir: root,
    outDir,
  };
  writeFileSync(
    config,
    JSON.stringify({
      extends: join(root, "tsconfig.json"),
      compilerOptions,
      // Declarations of what is global are imported by nobody.
      include: [folder, join(root, "packages/*/src/*.d.ts")],
      exclude: ["node_modules", "**/*.test.ts"].map((path) => join(root, path)),
    }),
  );
  execFileSync(join(root, "node_modules/.bin/tsc"), ["--project", config], { stdio: ["ignore", 2, 2] });
}

function publishedFiles(folder: string, { files }: Publishable): string[] {
  const left = files.filter((pattern) => pattern.startsWith("!")).map((pattern) => pattern.slice(1));
  return files
    .filter((pattern) => !pattern.startsWith("!"))
    .flatMap((pattern) => globSync([pattern, `${pattern}/**`], { cwd: folder, exclude: left, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)));
}

function build(folder: string): void {
  restore(folder);
  const manifest: Publishable = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const named = [manifest.exports, manifest.bin].flatMap((entries) => Object.values(entries ?? {}));
  const missing = named.filter((path) => !existsSync(join(folder, path)));
  if (missing.length > 0) throw new Error(`${folder}/package.json names ${missing.join(", ")}, which is not there`);
  // Inside the tree, where tsc finds the types of Node; git ignores it.
  mkdirSync(join(root, "build"), { recursive: true });
  const out = mkdtempSync(join(root, "build/publish-"));
  try {
    compile(folder, out);
    for (const path of publishedFiles(folder, manifest)) {
      const target = join(folder, "dist", path);
      mkdirSync(dirname(target), { recursive: true });
      if (!compiled(path)) {
        copyFileSync(join(folder, path), target);
        continue;
      }
      const emitted = join(out, relative(root, folder), path).replace(/\.[jt]s$/, "");
      const stem = target.replace(/\.[jt]s$/, "");
      copyFileSync(`${emitted}.d.ts`, `${stem}.d.ts`);
      writeFileSync(`${stem}.js`, rewriteUrls(readFileSync(`${emitted}.js`, "utf8")));
    }
    copyFileSync(join(root, "LICENSE"), join(folder, "dist/LICENSE"));
  } finally {
    rmSync(out, { recursive: true });
  }
  // Whoever reads package.json meanwhile finds one of the two, whole.
  copyFileSync(join(folder, "package.json"), join(folder, "package.json.source"));
  writeFileSync(join(folder, "package.json.new"), `${JSON.stringify(published(manifest), undefined, 2)}\n`);
  renameSync(join(folder, "package.json.new"), join(folder, "package.json"));
}

function restore(folder: string): void {
  const source = join(folder, "package.json.source");
  if (existsSync(source)) renameSync(source, join(folder, "package.json"));
  rmSync(join(folder, "dist"), { recursive: true, force: true });
}

if (import.meta.main) {
  const [command] = process.argv.slice(2);
  if (command === "build") build(process.cwd());
  else if (command === "restore") restore(process.cwd());
  else throw new Error(`publish.ts: build or restore, not ${command}`);
}
