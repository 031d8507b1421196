/** CPU models by name, with features added and taken away; and the check that a guest is told of nothing that is not there. */

import { type CpuidEntry, KvmError } from "@lodge/kvm";
import { FEATURES as DECODED } from "../decode/opcode-map.ts";
import { DEFAULT_MODEL, x8664v2, x8664v3 } from "./models.ts";

/** What each gives: `supportedCpuid` is all of them together. */
const MODELS: ReadonlyMap<string, () => CpuidEntry[]> = new Map([
  ["x86-64-v2", x8664v2],
  ["x86-64-v3", x8664v3],
]);

type Register = "eax" | "ebx" | "ecx" | "edx";
interface Feature {
  readonly leaf: number;
  readonly register: Register;
  readonly mask: number;
}

/**
 * Bits that promise instructions or modes, by Linux's names in /proc/cpuinfo (Intel SDM vol. 2, CPUID; AMD APM vol. 3,
 * appendix E), those from bit 0 on with `-` where a bit is none of them. Topology and what only informs are not here.
 */
const FEATURES: ReadonlyMap<string, Feature> = new Map([
  ...word(
    1,
    "edx",
    "fpu - de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 - clflush - - acpi mmx fxsr sse sse2",
  ),
  ...word(
    1,
    "ecx",
    "pni pclmulqdq - monitor - vmx smx - - ssse3 - - fma cx16 - pdcm - pcid - sse4_1 sse4_2 x2apic movbe popcnt " +
      "tsc_deadline_timer aes xsave - avx f16c rdrand",
  ),
  ...word(
    7,
    "ebx",
    "fsgsbase tsc_adjust sgx bmi1 hle avx2 - smep bmi2 - invpcid rtm - - mpx - avx512f avx512dq rdseed adx smap avx512ifma " +
      "- clflushopt clwb intel_pt avx512pf avx512er avx512cd sha_ni avx512bw avx512vl",
  ),
  ...word(
    7,
    "ecx",
    "- avx512vbmi umip pku - waitpkg avx512_vbmi2 shstk gfni vaes vpclmulqdq avx512_vnni avx512_bitalg - avx512_vpopcntdq - " +
      "la57 - - - - - rdpid - - cldemote - movdiri movdir64b enqcmd",
  ),
  ...word(
    7,
    "edx",
    "- - - - fsrm uintr - - - - - - - - serialize - - - - - ibt - amx_bf16 avx512_fp16 amx_tile amx_int8",
  ),
  ...word(
    0x80000001,
    "edx",
    "- - - - - - - - - - - syscall - - - - - - - - nx - mmxext - - fxsr_opt pdpe1gb rdtscp - lm 3dnowext 3dnow",
  ),
  ...word(0x80000001, "ecx", "lahf_lm - svm - cr8_legacy abm sse4a - 3dnowprefetch - - xop - - - - fma4 - - - - tbm"),
]);

function word(leaf: number, register: Register, names: string): [string, Feature][] {
  return names
    .split(" ")
    .map((name, index): [string, Feature] => [name, { leaf, register, mask: (1 << index) >>> 0 }])
    .filter(([name]) => name !== "-");
}

/** The word of a feature, subleaf 0. */
const entryOf = (entries: readonly CpuidEntry[], { leaf }: Feature): CpuidEntry | undefined =>
  entries.find((entry) => entry.function === leaf && entry.index === 0);

const has = (entries: readonly CpuidEntry[], feature: Feature): boolean =>
  ((entryOf(entries, feature)?.[feature.register] ?? 0) & feature.mask) !== 0;

/** Names of all that some model has. */
function available(): Set<string> {
  const all = [...MODELS.values()].map((make) => make());
  return new Set([...FEATURES].filter(([, feature]) => all.some((model) => has(model, feature))).map(([name]) => name));
}

/**
 * The CPUID leaves of a model such as `x86-64-v2` or `x86-64-v2,-aes,+rdseed`. Throws `KVM_INVALID`, which names what is
 * unknown or not to be had.
 */
export function cpuModel(description: string = DEFAULT_MODEL): CpuidEntry[] {
  const [name = "", ...changes] = description.split(",");
  const invalid = (why: string) => new KvmError("KVM_INVALID", `CPU model "${description}": ${why}`);
  const make = MODELS.get(name);
  if (make === undefined) {
    throw invalid(`the software processor has no model "${name}"; it has: ${[...MODELS.keys()].join(", ")}`);
  }
  const entries = make();
  for (const change of changes) {
    const [, sign, featureName = ""] = /^([+-])(\w+)$/.exec(change) ?? [];
    if (sign === undefined) throw invalid(`"${change}" is neither +FEATURE nor -FEATURE`);
    const feature = FEATURES.get(featureName);
    if (feature === undefined) throw invalid(`there is no feature "${featureName}" (names are those of /proc/cpuinfo)`);
    if (sign === "+" && !available().has(featureName)) throw invalid(`the software processor has no ${featureName}`);
    const at = entries.findIndex(({ function: leaf, index }) => leaf === feature.leaf && index === 0);
    if (at < 0) throw invalid(`the model has no leaf 0x${feature.leaf.toString(16)} for ${featureName}`);
    const old = entries[at]![feature.register];
    entries[at] = {
      ...entries[at]!,
      [feature.register]: (sign === "+" ? old | feature.mask : old & ~feature.mask) >>> 0,
    };
  }
  return entries;
}

/** Refuses leaves that promise what the software processor does not have, such as those of a host's own processor. */
export function checkCpuid(entries: readonly CpuidEntry[], subject: string): void {
  const known = available();
  const missing = [...FEATURES]
    .filter(([name, feature]) => has(entries, feature) && !known.has(name))
    .map(([name]) => name);
  if (missing.length === 0) return;
  throw new KvmError("KVM_REQUEST_FAILED", `${subject}: the software processor has no ${missing.join(", no ")}`);
}

/** In what models differ: what of it CPUID lacks is not decoded. */
const OPTIONAL: ReadonlySet<string> = new Set(["abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma"]);

/** The decoder's features without those that CPUID lacks: their encodings are #UD, or older instructions. */
export function decodedFeatures(entries: readonly CpuidEntry[]): ReadonlySet<string> {
  return new Set([...DECODED].filter((name) => !OPTIONAL.has(name) || has(entries, FEATURES.get(name)!)));
}
