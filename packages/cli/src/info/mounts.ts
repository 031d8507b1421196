/** What is mounted, from /proc/mounts. */

import { type HostFiles, text } from "./host-files.ts";

export interface Mount {
  path: string;
  type: string;
  options: string[];
}

export function mounts(files: HostFiles): Mount[] {
  return (text(files, "/proc/mounts") ?? "").split("\n").flatMap((line) => {
    const [, path, type, options] = line.split(" ");
    if (path === undefined || type === undefined) return [];
    // Spaces and the like are written in octal.
    const plain = path.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)));
    return [{ path: plain, type, options: options?.split(",") ?? [] }];
  });
}
