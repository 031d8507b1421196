/**
 * The images of this user: below ${XDG_CACHE_HOME:-~/.cache}/lodge/images a directory each (`tiny-1`), in it `image.json`
 * and the files that it names. An image is made under another name and renamed when it is complete, so builds may run side
 * by side and a broken one leaves nothing.
 */

import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import { VmmError } from "../errors.ts";
import type { ImageRecipe } from "./recipe.ts";
import { tiny } from "./tiny.ts";

/** The images that can be built. */
export const RECIPES: readonly ImageRecipe[] = [tiny];

export interface Image {
  readonly name: string;
  /** Paths of files. */
  readonly kernel: string;
  readonly initrd: string;
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
const UNFINISHED = "unfinished-";

export function imageStore(): string {
  const base = process.env.XDG_CACHE_HOME ?? "";
  // The XDG specification wants relative paths ignored.
  return join(isAbsolute(base) ? base : join(homedir(), ".cache"), "lodge", "images");
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

/** The image in a directory of the store; undefined when there is none. */
async function readImage(place: string): Promise<Image | undefined> {
  let text: string;
  try {
    text = await readFile(join(place, RECORD), "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  const { name, append, made } = JSON.parse(text) as Pick<Image, "name" | "append" | "made">;
  return { name, append, made, kernel: join(place, "kernel"), initrd: join(place, "initrd") };
}

async function build(recipe: ImageRecipe, place: string, options: PrepareOptions): Promise<Image> {
  const { progress = () => {}, signal } = options;
  const store = imageStore();
  await mkdir(store, { recursive: true });
  await removeAbandoned(store);
  const scratch = await mkdtemp(join(store, `${UNFINISHED}${process.pid}-`));
  try {
    const work = join(scratch, "work");
    const made = join(scratch, "made");
    await mkdir(work);
    await mkdir(made);
    const files = await recipe.build(work, progress, signal);
    await writeFile(join(made, "kernel"), files.kernel);
    await writeFile(join(made, "initrd"), files.initrd);
    const record = { name: recipe.name, append: files.append, made: files.made };
    await writeFile(join(made, RECORD), `${JSON.stringify(record, undefined, 2)}\n`);
    // A directory cannot be replaced by another in one step. What is in use keeps its open files.
    await unless(["ENOENT"], rename(place, join(scratch, "old")));
    // Another build of the same image may have been faster; one is as good as the other.
    await unless(["ENOTEMPTY", "EEXIST"], rename(made, place));
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
  const image = await readImage(place);
  if (image === undefined) throw new VmmError("VMM_IMAGE", `${place} vanished while it was built`);
  return image;
}

/** Waits for something that may fail in these ways. */
async function unless(codes: readonly string[], work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (!codes.includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
  }
}

/** Directories of builds whose process is gone; its id stands in the name. */
async function removeAbandoned(store: string): Promise<void> {
  for (const name of await readdir(store)) {
    const pid = new RegExp(`^${UNFINISHED}(\\d+)-`).exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) {
      await rm(join(store, name), { recursive: true, force: true });
    }
  }
}
