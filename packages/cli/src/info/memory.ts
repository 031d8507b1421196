/** The host's memory: how much, in which pages, and whether equal pages are merged. */

import { type HostFiles, number, text } from "./host-files.ts";

export interface MemoryInfo {
  totalBytes: number;
  availableBytes: number;
  hugePages: { sizeBytes: number; total: number; free: number }[];
  /** Transparent huge pages: always, madvise or never; undefined where the kernel has none. */
  transparentHugePages: string | undefined;
  /** Kernel samepage merging; undefined where the kernel has none. */
  ksm: { running: boolean; pagesShared: number; pagesSharing: number } | undefined;
}

export function memory(files: HostFiles): MemoryInfo {
  const meminfo = text(files, "/proc/meminfo") ?? "";
  const kib = (name: string) => Number(new RegExp(`^${name}: +(\\d+) kB$`, "m").exec(meminfo)?.[1] ?? 0) * 1024;
  return {
    totalBytes: kib("MemTotal"),
    availableBytes: kib("MemAvailable"),
    hugePages: hugePages(files),
    // The chosen one stands in brackets.
    transparentHugePages: /\[(\w+)\]/.exec(text(files, "/sys/kernel/mm/transparent_hugepage/enabled") ?? "")?.[1],
    ksm: ksm(files),
  };
}

function hugePages(files: HostFiles): MemoryInfo["hugePages"] {
  const folder = "/sys/kernel/mm/hugepages";
  return files
    .list(folder)
    .flatMap((name) => {
      const kib = /^hugepages-(\d+)kB$/.exec(name)?.[1];
      if (kib === undefined) return [];
      const count = (file: string) => number(files, `${folder}/${name}/${file}`) ?? 0;
      return [{ sizeBytes: Number(kib) * 1024, total: count("nr_hugepages"), free: count("free_hugepages") }];
    })
    .sort((a, b) => a.sizeBytes - b.sizeBytes);
}

function ksm(files: HostFiles): MemoryInfo["ksm"] {
  const run = number(files, "/sys/kernel/mm/ksm/run");
  if (run === undefined) return undefined;
  const count = (file: string) => number(files, `/sys/kernel/mm/ksm/${file}`) ?? 0;
  return { running: run === 1, pagesShared: count("pages_shared"), pagesSharing: count("pages_sharing") };
}
