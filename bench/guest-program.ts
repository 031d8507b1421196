/** Programs of this host in a benchmark's guest, which has busybox and nothing else. */

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import type { Entry } from "../packages/vmm/src/images/cpio.ts";

/** What to put into the guest's initramfs: the program as `/NAME/NAME`, to be run with `LD_LIBRARY_PATH=/NAME`. */
export function hostProgram(name: string): Entry[] {
  const program = execFileSync("sh", ["-c", `command -v ${name}`], { encoding: "utf8" }).trim();
  const libraries = execFileSync("ldd", [program], { encoding: "utf8" }).matchAll(/(\/\S+) \(/g);
  const file = (path: string, from: string): Entry => ({ kind: "file", path, mode: 0o755, data: readFileSync(from) });
  return [
    { kind: "directory", path: "lib64" },
    { kind: "directory", path: name },
    ...Array.from(libraries, ([, path]) => {
      const isLoader = basename(path!).startsWith("ld-linux");
      return file(`${isLoader ? "lib64" : name}/${basename(path!)}`, path!);
    }),
    file(`${name}/${name}`, program),
  ];
}
