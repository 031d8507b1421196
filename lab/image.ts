/**
 * What QEMU boots, kept outside the tree: below ${XDG_CACHE_HOME:-~/.cache}/lodge/lab one directory for each kernel
 * (`debian-RELEASE_VERSION`), in it the kernel, its modules and an initramfs for each set of ingredients. Everything is made
 * under another name and renamed when it is complete, so builds may run side by side and a broken one leaves nothing.
 */

import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import { LabError } from "./errors.ts";
import { initramfsKey, makeInitramfs, readIngredients } from "./initramfs.ts";
import { fetchKernel } from "./kernel.ts";
import { missingTools, toolsToBuild } from "./tools.ts";

export type LabImage = {
  /** ELF kernel, for booting directly. */
  kernel: string;
  /** The same kernel as Debian ships it (bzImage): something to boot inside the lab. */
  bzImage: string;
  initramfs: string;
  /** What /lib/modules/RELEASE is inside. */
  modules: string;
};

export function cacheDirectory(): string {
  const base = process.env.XDG_CACHE_HOME ?? "";
  // The XDG specification wants relative paths ignored.
  return join(isAbsolute(base) ? base : join(homedir(), ".cache"), "lodge", "lab");
}

const kernelPrefix = "debian-";
const unfinishedPrefix = "unfinished-";

function cachedKernels(cache: string): string[] {
  if (!existsSync(cache)) return [];
  const names = readdirSync(cache).filter((name) => name.startsWith(kernelPrefix));
  return names.sort(new Intl.Collator("en", { numeric: true }).compare).map((name) => join(cache, name));
}

/** Directories of builds whose process is gone; the id stands in the name. */
function removeAbandoned(cache: string): void {
  for (const name of readdirSync(cache)) {
    const pid = new RegExp(`^${unfinishedPrefix}(\\d+)-`).exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) rmSync(join(cache, name), { recursive: true, force: true });
  }
}

async function buildKernel(cache: string, replace: boolean): Promise<string> {
  const missing = missingTools(toolsToBuild);
  if (missing !== undefined) throw new LabError("UNAVAILABLE", missing);
  mkdirSync(cache, { recursive: true });
  removeAbandoned(cache);
  const unfinished = mkdtempSync(join(cache, `${unfinishedPrefix}${process.pid}-`));
  try {
    const made = join(unfinished, "made");
    mkdirSync(made);
    const target = join(cache, `${kernelPrefix}${await fetchKernel(made)}`);
    if (replace) {
      for (const [index, old] of cachedKernels(cache).entries()) renameSync(old, join(unfinished, `old-${index}`));
    }
    try {
      renameSync(made, target);
    } catch (cause) {
      // Another build of the same kernel was faster; one is as good as the other.
      if (!existsSync(target)) throw cause;
    }
    return target;
  } finally {
    rmSync(unfinished, { recursive: true, force: true });
  }
}

/** Finds the image, or builds what is missing of it. Once there, apt is not asked again unless `rebuild` says so. */
export async function prepareImage(options: { rebuild?: boolean } = {}): Promise<LabImage> {
  const cache = cacheDirectory();
  const cached = options.rebuild ? undefined : cachedKernels(cache).at(-1);
  const kernel = cached ?? (await buildKernel(cache, options.rebuild === true));
  const ingredients = readIngredients();
  const image = {
    kernel: join(kernel, "vmlinux"),
    bzImage: join(kernel, "vmlinuz"),
    initramfs: join(kernel, `initramfs-${initramfsKey(ingredients)}`),
    modules: join(kernel, "modules"),
  };
  if (!existsSync(image.initramfs)) {
    const unfinished = `${image.initramfs}.${process.pid}`;
    writeFileSync(unfinished, makeInitramfs(ingredients, image.modules));
    renameSync(unfinished, image.initramfs);
  }
  return image;
}
