/**
 * What a user who is not root needs so that mmdebstrap can make a root file system in a user namespace: newuidmap and newgidmap,
 * and a range of ids of one's own (subuid(5)). Found out before anything is downloaded: mmdebstrap says only that it cannot.
 */

import { readFile } from "node:fs/promises";
import { userInfo } from "node:os";
import { VmmError } from "../errors.ts";
import { requirePrograms } from "./programs.ts";

/** What Debian gives a user: as many as there are 16-bit ids. */
const ENOUGH = 65536;

/** How many ids of their own a user has, by the lines `NAME-OR-ID:FIRST:COUNT` of /etc/subuid or /etc/subgid: the most of one line. */
export function rangeSize(lines: string, name: string, id: number): number {
  const sizes = lines
    .split("\n")
    .map((line) => line.trim().split(":"))
    .filter(([owner]) => owner === name || owner === String(id))
    .map(([, , count]) => Number(count));
  return Math.max(0, ...sizes.filter(Number.isSafeInteger));
}

/** Refuses in one line when something is missing. */
export async function requireUserNamespace(purpose: string): Promise<void> {
  requirePrograms(["newuidmap", "newgidmap"], `${purpose} without root`);
  const { username, uid } = userInfo();
  for (const file of ["/etc/subuid", "/etc/subgid"]) {
    const lines = await readFile(file, "utf8").catch(() => "");
    if (rangeSize(lines, username, uid) >= ENOUGH) continue;
    const ids = "100000-165535";
    throw new VmmError(
      "VMM_TOOL_MISSING",
      `${purpose} without root needs ${ENOUGH} ids of ${username}'s own in ${file}: ` +
        `as root, usermod --add-subuids ${ids} --add-subgids ${ids} ${username} (a range that nobody has); or build it as root`,
    );
  }
}
