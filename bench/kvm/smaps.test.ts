import assert from "node:assert/strict";
import { test } from "node:test";
import { resident } from "./smaps.ts";

const smaps = `00400000-00746000 r--p 00000000 fe:00 5308557                            /usr/bin/node
Size:               3352 kB
Rss:                 100 kB
Pss:                  50 kB
Pss_Dirty:             7 kB
7f4c7c000000-7f4c9c000000 rw-p 00000000 00:00 0
Rss:                   8 kB
Pss:                   8 kB
7f4c9c000000-7f4c9d000000 rw-p 00000000 00:00 0                          [stack]
Rss:                   4 kB
Pss:                   2 kB
`;

test("maps are added up, without the guest's memory", () => {
  assert.deepEqual(resident(smaps), { rss: 112 * 1024, pss: 60 * 1024 });
  assert.deepEqual(resident(`${smaps}guest 7f4c7c000000\n`), { rss: 104 * 1024, pss: 52 * 1024 });
});
