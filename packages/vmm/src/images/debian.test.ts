/** The image debian, built and booted: a boot of systemd takes minutes in software, so this is for `./test --long`. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempDisposableSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, suite, test } from "node:test";
import { Transcript } from "../../testing/kernel.ts";
import { Machine } from "../machine.ts";
import { findProgram } from "./programs.ts";
import { type Image, prepareImage } from "./store.ts";

const missing = ["apt-get", "mmdebstrap", "mke2fs", "e2fsck"].find((program) => findProgram(program) === undefined);
const short = process.env.LODGE_LONG === "1" ? false : "it takes minutes: ./test --long";
const skip = missing === undefined ? short : `${missing} is not installed`;

suite("the image debian", { skip }, () => {
  const place = mkdtempDisposableSync(join(tmpdir(), "lodge-debian-"));
  const before = new Map(["XDG_CACHE_HOME", "XDG_DATA_HOME"].map((name) => [name, process.env[name]]));
  for (const name of before.keys()) process.env[name] = join(place.path, name);
  after(() => {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
    place.remove();
  });
  let image: Image;

  test("it is built with a file system that e2fsck finds no fault with", async () => {
    image = await prepareImage("debian");
    const { status, stdout } = spawnSync(findProgram("e2fsck")!, ["-fn", image.disk!], { encoding: "utf8" });
    assert.equal(status, 0, stdout);
  });

  test("it boots to a login and to commands, switches itself off, and goes on with its disk", async () => {
    const options = { image: "debian", accel: "soft", memory: "1G", name: "long-lived" } as const;
    {
      const console = new Transcript();
      await using vm = await Machine.start({ ...options, console: console.write });
      const { stdout, status } = await vm.exec(["sh", "-c", "systemctl is-system-running --wait; hostname; id -un"]);
      assert.deepEqual([stdout, status], ["running\nlong-lived\nroot\n", 0]);
      const names = await vm.exec(["sh", "-c", "ip -4 -o address show scope global; getent hosts gateway long-lived"]);
      assert.match(names.stdout, /inet 10\.0\.2\.15\/24 .* dynamic .*\n(.*\n)*10\.0\.2\.2 +gateway\.lodge\.internal/);
      await console.until("login: ");
      vm.type("root\n");
      await console.until("# ");
      assert.equal((await vm.exec(["sh", "-c", "echo kept >/root/left"])).status, 0);
      vm.shutDown();
      assert.deepEqual(await vm.ended, { reason: "power-off" });
    }
    await using again = await Machine.start({ ...options, ephemeral: true });
    assert.equal((await again.exec(["cat", "/root/left"])).stdout, "kept\n");
  });
});
