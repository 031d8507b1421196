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

/**
 * How many ids of their own a user has, by the lines `NAME:FIRST:COUNT` of /etc/subuid or /etc/subgid: by the first one with the
 * user's name, as mmdebstrap has it, although newuidmap would take the others and the user's number as well.
 */
export function rangeSize(lines: string, name: string): number {
  const line = lines
    .split("\n")
    .map((line) => line.trim().split(":"))
    .find(([owner]) => owner === name);
  const size = Number(line?.[2] ?? 0);
  return Number.isSafeInteger(size) ? size : 0;
}

/** Refuses in one line when something is missing. */
export async function requireUserNamespace(purpose: string): Promise<void> {
  requirePrograms(["newuidmap", "newgidmap"], `${purpose} without root`);
  const { username } = userInfo();
  for (const file of ["/etc/subuid", "/etc/subgid"]) {
    const lines = await readFile(file, "utf8").catch(() => "");
    if (rangeSize(lines, username) >= ENOUGH) continue;
    const ids = "100000-165535";
    throw new VmmError(
      "VMM_TOOL_MISSING",
      `${purpose} without root needs ${ENOUGH} ids of ${username}'s own in ${file}: ` +
        `as root, usermod --add-subuids ${ids} --add-subgids ${ids} ${username} (a range that nobody has); or build it as root`,
    );
  }
}
