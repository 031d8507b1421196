/** What work on files needs, for commands that do nothing else: each module that is not loaded shortens their start. */

export { Errno, SystemError } from "./errors.ts";
export * from "./file.ts";
export { canLockRange, Fcntl, lockRange } from "./locks.ts";
export { addressOf } from "./memory.ts";
export { voluntarySwitches } from "./scheduling.ts";
