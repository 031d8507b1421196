/** Each example does what it says. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { noGuest } from "../packages/vmm/testing/tiny-guest.ts";

/** What each prints, by its file. */
const SAYS: Record<string, RegExp> = {
  "command.ts": /^Linux lodge \S+-cloud-amd64 #\d .* x86_64 GNU\/Linux \(status 0, on (kvm|soft): .+\)\n$/,
  "disk.ts": /^left on the disk: \S+-cloud-amd64\n$/,
  "machine-per-test.ts": /^# pass 2\n# fail 0$/m,
  "network.ts": /^hello from the other machine\n$/,
};

const files = readdirSync(import.meta.dirname).filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts"));

test("there is a test for every example", () => {
  assert.deepEqual(files.toSorted(), Object.keys(SAYS));
});

for (const name of files) {
  test(name, { skip: noGuest }, () => {
    // Tests of its own say how they went in words for people, or as TAP, by who asks: of this one they are not.
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const flags = name === "machine-per-test.ts" ? ["--test-reporter=tap"] : [];
    const { stdout, stderr, status } = spawnSync(process.execPath, [...flags, join(import.meta.dirname, name)], {
      encoding: "utf8",
      env,
    });
    assert.deepEqual([stderr, status], ["", 0]);
    assert.match(stdout, SAYS[name]!);
  });
}
