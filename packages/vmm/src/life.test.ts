/** Resets, pauses, panics and ends, with a kernel of a few instructions. */

import assert from "node:assert/strict";
import { existsSync, mkdtempDisposableSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { assemble, noKernel, OBEDIENT, Transcript } from "../testing/kernel.ts";
import type { MachineOptions } from "./configuration/options.ts";
import type { LifeEvent } from "./life.ts";
import { Machine } from "./machine.ts";

suite("a machine's life", { skip: noKernel }, () => {
  const folder = mkdtempDisposableSync(join(tmpdir(), "lodge-life-"));
  test.after(() => folder.remove());
  const kernel = () => assemble(OBEDIENT, folder.path, "kernel");

  async function begin(options: MachineOptions = {}) {
    const transcript = new Transcript();
    const told: LifeEvent[] = [];
    const machine = await Machine.start({
      accel: "soft",
      memory: "16M",
      kernel: kernel(),
      debugExitPort: 0xf4,
      console: transcript.write,
      ...options,
    });
    machine.watch((event) => told.push(event));
    await transcript.until("boot\n");
    return { machine, transcript, told, [Symbol.asyncDispose]: () => machine.stop() };
  }

  test("the guest's resets begin it anew until it switches off", async () => {
    await using run = await begin();
    for (let reset = 0; reset < 3; reset++) {
      run.machine.type("r");
      await run.transcript.until("boot\n");
    }
    run.machine.type("e");
    await run.transcript.until("e");
    run.machine.type("o");
    assert.deepEqual(await run.machine.ended, { reason: "power-off" });
    assert.equal(run.machine.state, "ended");
    const reset = { event: "reset", byGuest: true };
    assert.deepEqual(run.told, [reset, reset, reset, { event: "ended", end: { reason: "power-off" } }]);
  });

  test("a machine that is paused stays so through the reset button, and goes on afterwards", async () => {
    await using run = await begin();
    await run.machine.pause();
    assert.equal(run.machine.state, "paused");
    await run.machine.reset();
    assert.equal(run.machine.state, "paused");
    assert.equal(run.transcript.text, "");
    run.machine.resume();
    await run.transcript.until("boot\n");
    // One that runs is reset, too, and pausing it while it is made anew counts.
    const reset = run.machine.reset();
    const paused = run.machine.pause();
    await Promise.all([reset, paused]);
    assert.equal(run.machine.state, "paused");
    run.machine.resume();
    await run.transcript.until("boot\n");
    assert.deepEqual(
      run.told.filter(({ event }) => event === "reset"),
      [1, 2].map(() => ({ event: "reset", byGuest: false })),
    );
  });

  test("it is stopped while it is made anew", async () => {
    await using run = await begin();
    const reset = run.machine.reset();
    await run.machine.stop();
    await reset;
    assert.ok(["stopped", "reset"].includes((await run.machine.ended).reason));
  });

  test("a reset is the end where that is asked for", async () => {
    await using run = await begin({ onReset: "end" });
    run.machine.type("r");
    assert.deepEqual(await run.machine.ended, { reason: "reset" });
  });

  test("a panic is the end, unless a crash kernel deals with it or the guest shall go on", async () => {
    await using run = await begin();
    run.machine.type("c");
    run.machine.type("e");
    await run.transcript.until("e");
    run.machine.type("p");
    assert.deepEqual(await run.machine.ended, { reason: "panicked" });
    assert.deepEqual(run.told.slice(0, 2), [
      { event: "panicked", crashLoaded: true, ends: false },
      { event: "panicked", crashLoaded: false, ends: true },
    ]);

    await using other = await begin({ onPanic: "continue" });
    other.machine.type("pe");
    await other.transcript.until("e");
    other.machine.type("x");
    assert.deepEqual(await other.machine.ended, { reason: "debug-exit", status: 5 });
  });

  test("a full disk under the console's file is told of once, and the machine goes on", {
    skip: existsSync("/dev/full") ? false : "no /dev/full here",
  }, async () => {
    const transcript = new Transcript();
    const told: LifeEvent[] = [];
    await using machine = await Machine.start({
      accel: "soft",
      memory: "16M",
      kernel: kernel(),
      console: transcript.write,
      serial: { to: "file", path: "/dev/full" },
    });
    machine.watch((event) => told.push(event));
    await transcript.until("boot\n");
    machine.type("ee");
    await transcript.until("ee");
    const message = "serial file /dev/full: ENOSPC: no space left on device, write; nothing more is written to it";
    assert.deepEqual(told, [{ event: "trouble", message }]);
  });

  test("the power button is heard", async () => {
    await using run = await begin();
    run.machine.shutDown();
    await run.transcript.until("button\n");
    assert.deepEqual(run.told, [{ event: "power-button" }]);
  });

  test("a file that a reset cannot be made from any more ends the machine in words", async () => {
    const { rmSync, writeFileSync } = await import("node:fs");
    const file = kernel();
    await using run = await begin({ kernel: file });
    // The name alone makes no difference.
    rmSync(file);
    run.machine.type("r");
    await run.transcript.until("boot\n");
    const own = kernel();
    await using other = await begin({ kernel: own });
    writeFileSync(own, "no kernel");
    other.machine.type("r");
    const end = await other.machine.ended;
    assert.ok(end.reason === "crash" && /could not be made anew/.test(end.message), JSON.stringify(end));
  });
});
