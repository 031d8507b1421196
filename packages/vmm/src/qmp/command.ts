/** What a command of QMP is. */

import type { AttachedDisk } from "../disks/attached-disk.ts";
import type { Machine } from "../machine.ts";
import { QmpError, type QmpErrorClass } from "./protocol.ts";

export type Arguments = Readonly<Record<string, unknown>>;

export interface Command {
  /** The names that it needs. */
  readonly takes: readonly string[];
  /** Those that it takes as well. */
  readonly may?: readonly string[];
  readonly run: (machine: Machine, args: Arguments) => unknown;
}

/** Refuses arguments that a command does not know, and that it needs and are not there. */
export function checkNames({ takes, may = [] }: Pick<Command, "takes" | "may">, args: Arguments): void {
  const missing = takes.find((taken) => !Object.hasOwn(args, taken));
  if (missing !== undefined) throw new QmpError(`Parameter '${missing}' is missing`);
  const unknown = Object.keys(args).find((given) => !takes.includes(given) && !may.includes(given));
  if (unknown !== undefined) throw new QmpError(`Parameter '${unknown}' is unexpected`);
}

export function wholeNumber(value: unknown, name: string): number {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
  throw new QmpError(`Parameter '${name}' expects a whole number`);
}

export function text(args: Arguments, name: string): string {
  const value = args[name];
  if (typeof value === "string" && value !== "") return value;
  throw new QmpError(value === undefined ? `Parameter '${name}' is missing` : `Parameter '${name}' expects a text`);
}

/** False where it is not given. */
export function flag(args: Arguments, name: string): boolean {
  const value = args[name] ?? false;
  if (typeof value === "boolean") return value;
  throw new QmpError(`Parameter '${name}' expects a boolean`);
}

/** A disk by the name that query-block gives it. QEMU's commands differ in the class of their refusal. */
export function diskOf({ disks }: Machine, device: unknown, refusal: QmpErrorClass): AttachedDisk {
  const found = disks.find(({ id }) => device === id);
  if (found !== undefined) return found;
  throw new QmpError(`Device '${device}' not found`, refusal);
}
