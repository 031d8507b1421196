/** QMP's messages (QEMU's docs/interop/qmp-spec.rst). */

/** The error classes that clients tell apart; everything else is generic. */
export type QmpErrorClass = "GenericError" | "CommandNotFound" | "DeviceNotActive" | "DeviceNotFound";

/** A command's refusal. */
export class QmpError extends Error {
  readonly class: QmpErrorClass;

  constructor(description: string, errorClass: QmpErrorClass = "GenericError") {
    super(description);
    this.class = errorClass;
  }
}

export interface QmpRequest {
  readonly execute: string;
  readonly arguments: Readonly<Record<string, unknown>>;
  /** Comes back with the answer. */
  readonly id: unknown;
}

/** The interface is that of this version of QEMU, as far as it goes: what clients look at to know what to expect. */
export const VERSION = { qemu: { major: 7, minor: 2, micro: 0 }, package: "lodge" } as const;

/** Takes a request apart; throws a {@link QmpError}. */
export function parseRequest(text: string): QmpRequest {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new QmpError(`JSON parse error, ${cause instanceof Error ? cause.message : cause}`);
  }
  if (!isObject(value)) throw new QmpError("QMP input must be a JSON object");
  const { execute, arguments: args = {}, id, ...rest } = value;
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined) throw new QmpError(`QMP input member '${unknown}' is unexpected`);
  if (typeof execute !== "string") throw new QmpError("QMP input lacks member 'execute'");
  if (!isObject(args)) throw new QmpError("QMP input member 'arguments' must be an object");
  return { execute, arguments: args, id };
}

/** The id of a request that may be wrong otherwise, so that its sender finds the refusal. */
export function idOf(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value.id : undefined;
  } catch {
    return undefined;
  }
}

/** What a server says first. */
export const GREETING = { QMP: { version: VERSION, capabilities: [] } } as const;

export function event(name: string, data: object | undefined, nowMs: number): object {
  const timestamp = { seconds: Math.floor(nowMs / 1000), microseconds: Math.floor((nowMs % 1000) * 1000) };
  return { timestamp, event: name, ...(data && { data }) };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
