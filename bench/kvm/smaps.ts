/** What of a process is resident, from its /proc/self/smaps (Linux Documentation/filesystems/proc.rst). */

export interface Resident {
  /** All that is resident, in bytes. */
  rss: number;
  /** The same with each page divided by the processes that share it. */
  pss: number;
}

/** Adds up the maps of `smaps`, without the one that begins at the address in a last line `guest ADDRESS`. */
export function resident(smaps: string): Resident {
  const guest = /^guest ([0-9a-f]+)$/m.exec(smaps)?.[1];
  const sum = { rss: 0, pss: 0 };
  let counts = true;
  for (const line of smaps.split("\n")) {
    const map = /^([0-9a-f]+)-[0-9a-f]+ /.exec(line)?.[1];
    if (map !== undefined) counts = map !== guest;
    const [, field, kib] = /^(Rss|Pss): +(\d+) kB$/.exec(line) ?? [];
    if (counts && field !== undefined) sum[field === "Rss" ? "rss" : "pss"] += Number(kib) * 1024;
  }
  return sum;
}
