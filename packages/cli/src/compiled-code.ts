/**
 * The sources that Node has compiled (`module.enableCompileCache` in bin/lodge.js), which it keeps for ever: those of other
 * clones, of older versions and of other Nodes, too. Once a day, what was not used for long and what is too much goes. A process
 * that runs has read what it needs of them, and what is missed is compiled again, so that nothing needs to be held for anybody.
 */

import { closeSync, openSync, readdirSync, rmdirSync, statSync, unlinkSync, utimesSync } from "node:fs";
import { join } from "node:path";

const DAY_MS = 24 * 60 * 60_000;

export interface Bounds {
  readonly mostBytes: number;
  readonly longestMs: number;
}

/** A clone's own are 6 to 10 MiB. File systems note reads once a day at least (relatime). */
const BOUNDS: Bounds = { mostBytes: 64 * 2 ** 20, longestMs: 30 * DAY_MS };

/** Its time is that of the last look. */
const STAMP = "looked-at";

/** Looks at the folder if the last time is a day ago. What cannot be read or removed is left alone. */
export function tidyCompiledCode(folder: string, bounds = BOUNDS, now = Date.now()): void {
  try {
    const stamp = join(folder, STAMP);
    const last = statSync(stamp, { throwIfNoEntry: false })?.mtimeMs ?? 0;
    if (now - last < DAY_MS) return;
    // Before the work, so that those who end meanwhile do not begin it as well.
    closeSync(openSync(stamp, "w", 0o600));
    utimesSync(stamp, now / 1000, now / 1000);
    tidy(folder, bounds, now);
  } catch {
    // The folder is not ours to change, or somebody removes it.
  }
}

function tidy(folder: string, { mostBytes, longestMs }: Bounds, now: number): void {
  const folders = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  const files = folders.flatMap(({ name }) =>
    readdirSync(join(folder, name)).flatMap((file) => {
      const path = join(folder, name, file);
      const found = statSync(path, { throwIfNoEntry: false });
      if (found === undefined) return [];
      return { path, usedMs: Math.max(found.atimeMs, found.mtimeMs), bytes: found.blocks * 512 };
    }),
  );
  let bytes = 0;
  for (const file of files.sort((a, b) => b.usedMs - a.usedMs)) {
    bytes += file.bytes;
    if (bytes > mostBytes || now - file.usedMs > longestMs) removed(() => unlinkSync(file.path));
  }
  // Those that are not empty stay.
  for (const { name } of folders) removed(() => rmdirSync(join(folder, name)));
}

function removed(remove: () => void): void {
  try {
    remove();
  } catch {
    // Gone already, or another user's.
  }
}
