/** `--memory`: how much, and what it is made of on the host. */

import { type MachineOptions, type MemoryBacking, parseFields, parseSwitch, VmmError } from "@lodge/vmm";

/** `SIZE[,hugepages=2M|transparent][,file=F][,mergeable]` */
export function parseMemory(text: string): Pick<MachineOptions, "memory" | "memoryBacking"> {
  const { value, named } = parseFields(text, "--memory", ["hugepages", "file", "mergeable"]);
  if (named.size === 0) return { memory: value };
  const huge = named.get("hugepages");
  if (huge !== undefined && huge !== "2M" && huge !== "transparent") {
    throw new VmmError("VMM_CONFIG", `--memory ${text}: hugepages is 2M or transparent`);
  }
  const file = named.get("file");
  if (file === "") throw new VmmError("VMM_CONFIG", `--memory ${text}: which file?`);
  const memoryBacking: MemoryBacking = {
    ...(huge !== undefined && { hugePages: huge }),
    ...(file !== undefined && { file }),
    mergeable: parseSwitch(named.get("mergeable"), "mergeable"),
  };
  return { memory: value, memoryBacking };
}
