/** The processor that the software CPU is compared with. */

import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import { IS_AMD, IS_INTEL } from "../testing/vendor.ts";

/** A line of /proc/cpuinfo, of its first processor. */
function field(name: string): string {
  const line = new RegExp(`^${name}\\s*: (.*)$`, "m").exec(cpuinfo);
  return line?.[1] ?? "";
}
const cpuinfo = read();

function read(): string {
  try {
    return readFileSync("/proc/cpuinfo", "utf8");
  } catch {
    // Not Linux: there is no KVM either.
    return "";
  }
}

/** Its features by Linux's names. */
export const FEATURES: ReadonlySet<string> = new Set(field("flags").split(" "));

/** Of a program's instructions the one that does otherwise is not known, and what came of it goes on into the others. */
export const COMPARES_PROGRAMS = IS_INTEL;

export const NAME = `${cpus()[0]?.model}, family ${field("cpu family")}, model ${field("model")}, ${cpus().length} cores`;

/**
 * Families and models on which a million cases were compared with no flag masked. On others the flags that manuals leave
 * undefined are not compared.
 */
export const IS_VERIFIED = new Set(["6/167", "6/207"]).has(`${field("cpu family")}/${field("model")}`);

/** What the fuzzer's own stubs need. */
const NEEDED = ["avx", "xsave", "fsgsbase"];

/** Why nothing can be compared on this processor. */
export function whyNot(): string | undefined {
  const lacking = NEEDED.filter((feature) => !FEATURES.has(feature));
  if (lacking.length > 0) return `this processor (${NAME}) lacks what the fuzzer's stubs use: ${lacking.join(", ")}`;
  return IS_INTEL || IS_AMD
    ? undefined
    : `where manuals leave something open, the software CPU follows Intel's; this is ${NAME}`;
}
