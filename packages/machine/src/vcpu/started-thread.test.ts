/** A thread that is started before its machine is there: it is that machine's, and holds nobody up when none comes. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { startThreadAhead, threadFor } from "./started-thread.ts";

test("the thread that was started ahead is the next first vCPU's, and nobody else's", async () => {
  startThreadAhead();
  startThreadAhead();
  const threads = [1, 0, 0].map((id) => threadFor(id));
  assert.equal(new Set(threads.map(({ worker }) => worker.threadId)).size, 3);
  const first = Math.min(...threads.map(({ worker }) => worker.threadId));
  assert.equal(threads[1]?.worker.threadId, first);
  await Promise.all(threads.map(({ worker }) => worker.terminate()));
});

test("one that has ended meanwhile is none", async () => {
  startThreadAhead();
  const gone = threadFor(0);
  gone.setAside();
  const ended = once(gone.worker, "exit");
  await gone.worker.terminate();
  await ended;
  assert.equal(gone.isAlive, false);
});

test("a process for which no machine comes ends nevertheless", () => {
  const code = `import { startThreadAhead } from ${JSON.stringify(new URL("./started-thread.ts", import.meta.url).href)};
    startThreadAhead();`;
  execFileSync(process.execPath, ["--input-type=module", "-e", code], { timeout: 120_000, stdio: "inherit" });
});
