/** Whose processor this host has: where manuals leave something open, the software processor does as Intel's do. */

import { existsSync, readFileSync } from "node:fs";

const INFO = "/proc/cpuinfo";
const vendor = existsSync(INFO) ? /^vendor_id\s*: (.*)$/m.exec(readFileSync(INFO, "latin1"))?.[1] : undefined;

export const IS_INTEL = vendor === "GenuineIntel";
export const IS_AMD = vendor === "AuthenticAMD";

/** Why this host's processor is none to compare with in every detail, or false. For a test's `skip`. */
export const notIntel: string | false = IS_INTEL ? false : "the reference is an Intel processor";
