/** The networks of this user, below ${XDG_CONFIG_HOME:-~/.config}/lodge/networks: a file of JSON for each. */

import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import { NetworkError } from "../errors.ts";
import { checkDefinition, checkNetworkName, type NetworkDefinition } from "./definition.ts";

const SUFFIX = ".json";

function folder(): string {
  const base = process.env.XDG_CONFIG_HOME ?? "";
  return join(isAbsolute(base) ? base : join(homedir(), ".config"), "lodge", "networks");
}

function fileOf(name: string): string {
  return join(folder(), checkNetworkName(name) + SUFFIX);
}

/** All of them, by name. What is damaged is an error that names its file. */
export function readNetworks(): NetworkDefinition[] {
  let files: string[];
  try {
    files = readdirSync(folder());
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
  return files
    .filter((file) => file.endsWith(SUFFIX))
    .toSorted()
    .map((file) => readNetwork(file.slice(0, -SUFFIX.length)));
}

/** Throws a `NetworkError` where there is none of that name. */
export function readNetwork(name: string): NetworkDefinition {
  const file = fileOf(name);
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    throw new NetworkError("NETWORK_CONFIG", `there is no network ${name}; make it: lodge net create ${name}`);
  }
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null) throw new Error("it is no object");
    return checkDefinition({ ...value, name });
  } catch (error) {
    throw new NetworkError("NETWORK_CONFIG", `${file}: ${(error as Error).message}`, { cause: error });
  }
}

/** Keeps a new one. */
export function writeNetwork(definition: NetworkDefinition): void {
  const { name, ...rest } = checkDefinition(definition);
  const file = fileOf(name);
  mkdirSync(folder(), { recursive: true, mode: 0o700 });
  const whole = `${file}.${process.pid}`;
  writeFileSync(whole, `${JSON.stringify(rest, undefined, 2)}\n`, { mode: 0o600 });
  renameSync(whole, file);
}

export function removeNetwork(name: string): void {
  rmSync(fileOf(name), { force: true });
}
