/**
 * Debian packages through the system's own apt: its sources, its keys, its verification. Nothing is installed, and no root
 * is needed.
 */

import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { VmmError } from "../errors.ts";
import { type Program, runProgram } from "./programs.ts";

export const APT_PROGRAMS: readonly Program[] = ["apt-get", "apt-cache", "dpkg-deb", "tar"];

/** Machines are x86-64, whatever the host is; a host of another architecture has no lists of it. */
const FOREIGN = process.arch === "x64" ? [] : ["-o", "APT::Architecture=amd64", "-o", "APT::Architectures=amd64"];

/** Root's apt would otherwise want to become a user who cannot write where we are. */
const AS_ROOT = process.getuid?.() === 0 ? ["-o", "APT::Sandbox::User=root"] : [];

/** A Debian package's file. */
export interface DebianArchive {
  readonly name: string;
  readonly version: string;
  readonly path: string;
}

/**
 * Downloads packages into `directory`. A name that ends with `*` stands for the package that this meta package depends on:
 * `linux-image-cloud-amd64*` is the newest kernel itself. apt's lists are used as they are; where they are absent or too old
 * (containers), lists of our own are fetched into `directory`.
 */
export async function downloadPackages(
  names: readonly string[],
  directory: string,
  signal?: AbortSignal,
): Promise<DebianArchive[]> {
  const options = [...AS_ROOT, ...FOREIGN];
  try {
    if (FOREIGN.length === 0) return await download(names, directory, options, signal);
  } catch (error) {
    if (!(error instanceof VmmError) || error.code !== "VMM_IMAGE") throw error;
  }
  const own = [...options, ...(await privateLists(directory))];
  try {
    await runProgram("apt-get", ["update", ...own, "-q"], { signal });
    return await download(names, directory, own, signal);
  } catch (error) {
    if (!(error instanceof VmmError) || error.code !== "VMM_IMAGE") throw error;
    throw new VmmError(
      "VMM_IMAGE",
      `apt cannot fetch ${names.join(", ")}; the first use needs Debian's package sources and a network, later ones do not. ${error.message}`,
      { cause: error },
    );
  }
}

async function privateLists(directory: string): Promise<string[]> {
  const lists = join(directory, "lists");
  const cache = join(directory, "apt-cache");
  await mkdir(join(lists, "partial"), { recursive: true });
  await mkdir(join(cache, "archives", "partial"), { recursive: true });
  return ["-o", `Dir::State::lists=${lists}`, "-o", `Dir::Cache=${cache}`];
}

async function download(
  names: readonly string[],
  directory: string,
  options: readonly string[],
  signal: AbortSignal | undefined,
): Promise<DebianArchive[]> {
  const wanted = await Promise.all(
    names.map((name) => (name.endsWith("*") ? behindMetaPackage(name.slice(0, -1), options, signal) : name)),
  );
  await runProgram("apt-get", ["download", ...options, "-q", ...wanted], { cwd: directory, signal });
  const files = await readdir(directory);
  return wanted.map((name) => {
    const file = files.find((entry) => entry.startsWith(`${name}_`) && entry.endsWith(".deb"));
    if (file === undefined) throw new VmmError("VMM_IMAGE", `apt-get download ${name} left no file`);
    return { name, version: decodeURIComponent(file.split("_")[1] ?? ""), path: join(directory, file) };
  });
}

async function behindMetaPackage(
  name: string,
  options: readonly string[],
  signal: AbortSignal | undefined,
): Promise<string> {
  const dependencies = await runProgram("apt-cache", ["depends", ...options, "--important", name], { signal });
  const found = /^ *\|?Depends: ([^\s<>]+)$/m.exec(dependencies.toString())?.[1];
  if (found === undefined) throw new VmmError("VMM_IMAGE", `apt knows no package behind ${name}`);
  return found;
}

/** Unpacks those files of a package whose path (`./boot/vmlinuz-…`) is wanted, and returns their paths. */
export async function unpackFiles(
  archive: DebianArchive,
  directory: string,
  wanted: (path: string) => boolean,
  signal?: AbortSignal,
): Promise<string[]> {
  const files = await runProgram("dpkg-deb", ["--fsys-tarfile", archive.path], { signal });
  const listed = (await runProgram("tar", ["-t"], { input: files, signal })).toString().split("\n");
  const paths = listed.filter((path) => path !== "" && !path.endsWith("/") && wanted(path));
  if (paths.length === 0) return [];
  const args = ["-x", "-C", directory, "--no-same-owner", "--", ...paths];
  await runProgram("tar", args, { input: files, signal });
  return paths;
}
