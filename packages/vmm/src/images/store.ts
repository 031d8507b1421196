/**
 * The images of this user, below ${XDG_CACHE_HOME:-~/.cache}/lodge/images: `tiny-1` is a link to the directory that a build
 * made (`tiny-1.PID-…`), with the kernel, the initrd and `image.json`. The link is put in place in one step when the image is
 * complete, so builds may run side by side, and a broken one leaves nothing.
 */

import { existsSync } from "node:fs";
import {
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  stat,
  statfs,
  symlink,
  unlink,
  writeFile,
} from "node:fs/promises";
import { homedir } from "node:os";
import { basename, isAbsolute, join } from "node:path";
import { VmmError } from "../errors.ts";
import { debian } from "./debian.ts";
import type { ImageRecipe } from "./recipe.ts";
import { tiny } from "./tiny.ts";

/** The images that can be built. */
export const RECIPES: readonly ImageRecipe[] = [tiny, debian];

export interface Image {
  readonly name: string;
  /** Paths of files. */
  readonly kernel: string;
  readonly initrd: string;
  /** Raw, and never written: what machines' own disks begin as. */
  readonly disk: string | undefined;
  readonly append: string;
  readonly made: readonly string[];
}

export interface PrepareOptions {
  /** Build it although it is there: with the packages of today. */
  readonly rebuild?: boolean;
  /** Told each step of a build, which takes seconds. */
  readonly progress?: (step: string) => void;
  readonly signal?: AbortSignal;
}

const RECORD = "image.json";
const DISK = "disk.raw";
const UNFINISHED = "unfinished.";

/** Where all is kept that can be made again. */
export function cacheFolder(): string {
  const base = process.env.XDG_CACHE_HOME ?? "";
  // The XDG specification wants relative paths ignored.
  return join(isAbsolute(base) ? base : join(homedir(), ".cache"), "lodge");
}

export function imageStore(): string {
  return join(cacheFolder(), "images");
}

/** Where an image lies, once it is built. */
export function imagePlace({ name, version }: ImageRecipe): string {
  return join(imageStore(), `${name}-${version}`);
}

/** The image of this name, built first if it is not there. */
export async function prepareImage(name: string, options: PrepareOptions = {}): Promise<Image> {
  const recipe = RECIPES.find((known) => known.name === name);
  if (recipe === undefined) {
    const known = RECIPES.map((one) => one.name).join(", ");
    throw new VmmError("VMM_IMAGE", `there is no image ${JSON.stringify(name)}; there is ${known}`);
  }
  const place = imagePlace(recipe);
  return (options.rebuild ? undefined : await readImage(place)) ?? (await build(recipe, place, options));
}

/** The image behind a link of the store; undefined when there is none. */
export async function readImage(link: string): Promise<Image | undefined> {
  try {
    // Its own directory, so that all of it is of one build.
    const place = await realpath(link);
    const { name, append, made } = JSON.parse(await readFile(join(place, RECORD), "utf8"));
    return { name, append, made, ...filesIn(place) };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

function filesIn(place: string): Pick<Image, "kernel" | "initrd" | "disk"> {
  const disk = join(place, DISK);
  return {
    kernel: join(place, "kernel"),
    initrd: join(place, "initrd"),
    disk: existsSync(disk) ? disk : undefined,
  };
}

async function build(recipe: ImageRecipe, link: string, options: PrepareOptions): Promise<Image> {
  const { progress = () => {}, signal } = options;
  const store = imageStore();
  await mkdir(store, { recursive: true });
  await requireRoom(store, recipe);
  const scratch = await mkdtemp(join(store, `${UNFINISHED}${process.pid}-`));
  try {
    const work = join(scratch, "work");
    const made = join(scratch, "made");
    await mkdir(work);
    await mkdir(made);
    const files = await recipe.build(work, progress, signal);
    await writeFile(join(made, "kernel"), files.kernel);
    await writeFile(join(made, "initrd"), files.initrd);
    if (files.disk !== undefined) await rename(files.disk, join(made, DISK));
    const record = { name: recipe.name, append: files.append, made: files.made };
    await writeFile(join(made, RECORD), `${JSON.stringify(record, undefined, 2)}\n`);
    const place = link + basename(scratch).slice(UNFINISHED.length - 1);
    await rename(made, place);
    await symlink(basename(place), join(scratch, "link"));
    await rename(join(scratch, "link"), link);
    await forgetOutdated(store);
    await removeOld(store);
    return { ...record, ...filesIn(place) };
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** apt and others say other things when a file system is full. */
async function requireRoom(store: string, { name, roomBytes }: ImageRecipe): Promise<void> {
  const { bavail, bsize } = await statfs(store);
  if (bavail * bsize >= roomBytes) return;
  const mib = (bytes: number) => `${Math.floor(bytes / 2 ** 20)} MiB`;
  throw new VmmError(
    "VMM_IMAGE",
    `building the image ${name} takes ${mib(roomBytes)} in ${store}, where ${mib(bavail * bsize)} are free: ` +
      "make room, or set XDG_CACHE_HOME to a folder that has it",
  );
}

/** How long an image stays of which there is a newer version: another clone may have use for it. */
const OUTDATED_MS = 30 * 24 * 60 * 60_000;

/** Takes away the links of older versions that no machine was started from for long, nor is running from. */
async function forgetOutdated(store: string): Promise<void> {
  for (const name of await readdir(store)) {
    const [, of, version] = /^(.+)-(\d+)$/.exec(name) ?? [];
    const recipe = RECIPES.find((known) => known.name === of);
    if (recipe === undefined || Number(version) >= recipe.version) continue;
    const link = join(store, name);
    const image = await readImage(link);
    if (image === undefined) continue;
    // Every start reads the kernel; file systems note that once a day at least (relatime).
    const { atimeMs, mtimeMs } = await stat(image.kernel);
    if (Date.now() - Math.max(atimeMs, mtimeMs) < OUTDATED_MS) continue;
    if (image.disk !== undefined && (await (await import("@lodge/storage")).isImageInUse(image.disk))) continue;
    await unlink(link);
  }
}

/** Directories of processes that are gone, unless a link leads there. A build's process id stands in the name. */
async function removeOld(store: string): Promise<void> {
  const names = await readdir(store);
  const links = names.filter((name) => !name.includes("."));
  const used = new Set(await Promise.all(links.map((name) => realpath(join(store, name)).catch(() => ""))));
  for (const name of names) {
    const pid = /\.(\d+)-\w+$/.exec(name)?.[1];
    if (pid === undefined || existsSync(`/proc/${pid}`) || used.has(join(await realpath(store), name))) continue;
    await rm(join(store, name), { recursive: true, force: true });
  }
}
