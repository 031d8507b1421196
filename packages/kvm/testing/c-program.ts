/** Small C programs for tests and benchmarks: the compiler and the kernel's headers as the other side's word. */

import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempDisposableSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Why nothing can be compiled against the kernel's headers here, or false. For a test's `skip`. */
export function noKernelHeaders(): string | false {
  if (spawnSync("gcc", ["--version"]).status !== 0) return "gcc is not installed";
  if (!existsSync("/usr/include/linux/kvm.h")) return "linux/kvm.h is not installed (linux-libc-dev)";
  return false;
}

/** A C expression, and the macro without which these headers do not know it. */
export interface Expression {
  c: string;
  needs?: string;
}

/** What the expressions are with this machine's linux/kvm.h; undefined where the macro that one needs is not there. */
export function evaluateWithKvmHeader(expressions: readonly Expression[]): (bigint | undefined)[] {
  using dir = mkdtempDisposableSync(join(tmpdir(), "lodge-headers-"));
  const [source, binary] = [join(dir.path, "print.c"), join(dir.path, "print")];
  writeFileSync(
    source,
    `#include <stddef.h>
#include <stdio.h>
#include <linux/kvm.h>
int main(void) {
${expressions.map(printed).join("\n")}
  return 0;
}
`,
  );
  execFileSync("gcc", ["-o", binary, source], { stdio: ["ignore", "ignore", "inherit"] });
  const lines = execFileSync(binary, { encoding: "utf8" }).trimEnd().split("\n");
  return expressions.map((_, index) => (lines[index] === "absent" ? undefined : BigInt(lines[index]!)));
}

function printed({ c, needs }: Expression): string {
  const line = `  printf("%llu\\n", (unsigned long long) (${c}));`;
  return needs === undefined ? line : `#ifdef ${needs}\n${line}\n#else\n  puts("absent");\n#endif`;
}
