/** Sockets in the file system whose process was killed are no obstacle to the next one; what is somebody's stays. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempDisposableSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { DatagramPort } from "../dgram/port.ts";
import { parseForward } from "../nat/forward.ts";
import { Nat } from "../nat/nat.ts";
import { StreamPort } from "../stream/port.ts";

const SOURCES = join(import.meta.dirname, "..");

test("a forward, a stream and a datagram socket of a killed process are taken over; living ones and files are not", async () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-sockets-"));
  const [web, cable, here] = ["web", "cable", "here"].map((name) => join(folder.path, name)) as [
    string,
    string,
    string,
  ];
  const there = { path: join(folder.path, "there") };
  const source = `
    import { DatagramPort } from "${SOURCES}/dgram/port.ts";
    import { parseForward } from "${SOURCES}/nat/forward.ts";
    import { Nat } from "${SOURCES}/nat/nat.ts";
    import { StreamPort } from "${SOURCES}/stream/port.ts";
    globalThis.kept = [
      new Nat({ forwards: [parseForward("unix:${web}-:80")] }),
      await StreamPort.listen({ path: "${cable}" }),
      new DatagramPort({ path: "${here}" }, { path: "${there.path}" }),
    ];
    console.log("there");`;
  const child = spawn(process.execPath, ["--input-type=module-typescript", "-e", source], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(child.stdout, "data");
  const forward = parseForward(`unix:${web}-:80`);
  const make = async (undo: AsyncDisposableStack) => {
    undo.use(new Nat({ forwards: [forward] }));
    undo.use(await StreamPort.listen({ path: cable }));
    undo.use(new DatagramPort({ path: here }, there));
  };
  assert.throws(() => new Nat({ forwards: [forward] }), { message: /the socket exists already; remove it/ });
  await assert.rejects(StreamPort.listen({ path: cable }), { message: /it is taken/ });
  assert.throws(() => new DatagramPort({ path: here }, there), { code: "NETWORK_HOST" });
  child.kill("SIGKILL");
  await once(child, "close");
  assert.deepEqual([web, cable, here].map(existsSync), [true, true, true]);
  {
    await using undo = new AsyncDisposableStack();
    await make(undo);
  }
  assert.deepEqual([web, cable, here].map(existsSync), [false, false, false]);
  writeFileSync(web, "a file");
  assert.throws(() => new Nat({ forwards: [forward] }), { message: /the socket exists already; remove it/ });
  assert.equal(readFileSync(web, "utf8"), "a file");
});
