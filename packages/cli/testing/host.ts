/** A pretended host: files and devices in a table. */

import type { HostFiles } from "../src/info/host-files.ts";

/** Paths with their text or bytes; `{ refusal }` for a device that cannot be opened, `{}` for one that can. */
export type Tree = Record<string, string | Uint8Array | { refusal?: string }>;

export function host(tree: Tree): HostFiles {
  const below = (path: string) => Object.keys(tree).filter((other) => other.startsWith(`${path}/`));
  return {
    bytes: (path) => {
      const entry = tree[path];
      if (typeof entry === "string") return new TextEncoder().encode(entry);
      return entry instanceof Uint8Array ? entry : undefined;
    },
    list: (path) => [...new Set(below(path).map((other) => other.slice(path.length + 1).split("/")[0]!))],
    exists: (path) => path in tree || below(path).length > 0,
    refusal: (path) => {
      const entry = tree[path];
      if (entry === undefined) return "ENOENT";
      return typeof entry === "object" && "refusal" in entry ? (entry.refusal as string) : undefined;
    },
  };
}
