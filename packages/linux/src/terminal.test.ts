import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readSync, writeFileSync } from "node:fs";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { OpenFlag, open } from "./file.ts";
import { Descriptor, PseudoTerminal } from "./index.ts";

test("what another program writes there is read here, byte for byte, and the other way round", async () => {
  using terminal = new PseudoTerminal();
  assert.match(terminal.path, /^\/dev\/pts\/\d+$/);
  let heard = "";
  const { promise, resolve } = Promise.withResolvers<void>();
  terminal.watch((bytes) => {
    heard += Buffer.from(bytes).toString("latin1");
    if (heard.endsWith("!")) resolve();
  });
  // Ctrl-C, line ends and the end of file are bytes like others.
  writeFileSync(terminal.path, "a\r\nb\x03\x04!", "latin1");
  await promise;
  assert.equal(heard, "a\r\nb\x03\x04!");

  const reader = spawn("head", ["-c", "5", terminal.path]);
  assert.equal(terminal.write(Buffer.from("1\n\r\n2")), 5);
  const [output] = await Promise.all([text(reader.stdout), once(reader, "close")]);
  assert.equal(output, "1\n\r\n2");
  const modes = spawnSync("stty", ["-F", terminal.path, "-a"], { encoding: "utf8" }).stdout;
  for (const mode of ["-icanon", "-echo", "-isig", "-opost", "-icrnl", "cs8"]) assert.ok(modes.includes(mode), mode);
});

test("a terminal that nobody reads fills up, and takes more once somebody does", async () => {
  using terminal = new PseudoTerminal();
  let taken = 0;
  for (let more = 1; more > 0; taken += more) more = terminal.write(Buffer.alloc(4096, "x"));
  assert.ok(taken > 0 && taken < 1 << 20, String(taken));
  using reader = new Descriptor(open(terminal.path, OpenFlag.RDWR | OpenFlag.NOCTTY | OpenFlag.CLOEXEC));
  assert.ok(readSync(reader.fd, Buffer.alloc(65536)) > 0);
  // A worker of the kernel's moves what waits, when it gets to it.
  while (terminal.write(Buffer.alloc(16)) === 0) await setImmediate();
});
