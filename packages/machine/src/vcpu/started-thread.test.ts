/** A thread that is started before its machine is there: it is that machine's, and holds nobody up when none comes. */

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempDisposableSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
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

test("what it had to compile is kept although the process is killed while its vCPU runs", () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-compiled-"));
  const here = (path: string) => JSON.stringify(new URL(path, import.meta.url).href);
  const code = `
    import { enableCompileCache } from "node:module";
    enableCompileCache(${JSON.stringify(folder.path)});
    const [{ Pc }, { SPIN }, { elf64 }] = await Promise.all(
      [${here("../pc.ts")}, ${here("../../testing/programs.ts")}, ${here("../../testing/elf.ts")}].map((path) => import(path)),
    );
    const description = { accelerator: "soft", memoryBytes: 16 << 20, cpus: { count: 1 }, kernel: elf64(Uint8Array.from(SPIN)) };
    const pc = await Pc.create(description);
    pc.start();
    process.kill(process.pid, "SIGKILL");`;
  const { signal, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", code], { encoding: "utf8" });
  assert.deepEqual({ signal, stderr }, { signal: "SIGKILL", stderr: "" });
  const kept = readdirSync(folder.path, { recursive: true, encoding: "utf8" });
  assert.ok(
    kept.some((name) => /^lodge-[^/]*\/worker-\w+$/.test(name)),
    kept.join("\n"),
  );
});
