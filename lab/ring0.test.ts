/**
 * Ring 0 on the kernel's real kvm-amd and in software: random system instructions in random states of every mode, and
 * accesses through random page tables (`npm run fuzz:ring0`). In CI as many as there is time for; `./test --long` all.
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { labUnavailable, runInLab } from "./lab.ts";

const PROGRAM = join(import.meta.dirname, "../packages/softkvm/fuzz/ring0.ts");
const long = process.env.LODGE_LONG === "1";
/** The runner gives a file ten minutes, two hours with --long. */
const [cases, seconds, timeoutMs] = long ? [5000, 90 * 60, 110 * 60_000] : [100, 240, 9 * 60_000];
/** In CI always the same cases: fresh ones find ways of QEMU's own, one in some thousands, that oracles.ts has yet to learn. */
const seed = process.env.LODGE_SEED ?? (long ? String(Date.now() % 1_000_000_000) : "13");

test(`ring 0 does on kvm-amd what it does in software (LODGE_SEED=${seed})`, {
  skip: (await labUnavailable()) ?? false,
}, async (t) => {
  const argv = [process.execPath, PROGRAM, String(cases), "--seed", seed, "--seconds", String(seconds)];
  const { stdout, stderr, status } = await runInLab(argv, { timeoutMs });
  const compared = [...stdout.matchAll(/^(\S+): (\d+) of (\d+) compared/gm)].map(([line, name, count]) => {
    t.diagnostic(line);
    return [name, Number(count)] as const;
  });
  assert.equal(status, 0, `${stdout}\n${stderr}`);
  assert.match(stdout, /^kvm-amd in the lab/);
  assert.deepEqual(
    compared.map(([name]) => name),
    ["real", "protected", "vm86", "long", "compat", "page-tables"],
  );
  for (const [name, count] of compared) assert.ok(count > 0, `nothing of ${name} was compared`);
});
