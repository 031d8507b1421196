/** busybox, the one program of small images. */

import { VmmError } from "../errors.ts";

/**
 * The names under which busybox can be started, from its own table: sorted, NUL-terminated, beginning with `[` and `[[`. The
 * file is of another architecture than some hosts, so it cannot be asked.
 */
export function applets(busybox: Buffer): string[] {
  const names: string[] = [];
  for (let at = busybox.indexOf("\0[\0[[\0", 0, "latin1") + 1; at > 0; ) {
    const end = busybox.indexOf(0, at);
    const name = busybox.toString("latin1", at, end);
    if (end < 0 || !/^[\w.[-]+$/.test(name)) break;
    names.push(name);
    at = end + 1;
  }
  if (!names.includes("sh") || !names.includes("mount")) {
    throw new VmmError("VMM_IMAGE", "the busybox-static package holds a busybox without a table of its commands");
  }
  return names;
}
