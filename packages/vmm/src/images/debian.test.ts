/** The image debian, built and booted: a boot of systemd takes minutes in software, so this is for `./test --long`. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, chownSync, mkdirSync, mkdtempDisposableSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, suite, test } from "node:test";
import { Transcript } from "../../testing/kernel.ts";
import { asNobody, NOBODY, notNobody } from "../../testing/nobody.ts";
import { Machine } from "../machine.ts";
import { findProgram } from "./programs.ts";
import { type Image, prepareImage } from "./store.ts";

const missing = ["apt-get", "mmdebstrap", "mke2fs", "e2fsck", "debugfs"].find(
  (name) => findProgram(name) === undefined,
);
const short = process.env.LODGE_LONG === "1" ? false : "it takes minutes: ./test --long";
const skip = missing === undefined ? short : `${missing} is not installed`;
const noNobody = notNobody("unshare", "newuidmap", "newgidmap", "fakeroot");

/** What e2fsck finds wrong with a file system; it changes nothing. */
function faults(disk: string): string {
  const { status, stdout } = spawnSync(findProgram("e2fsck")!, ["-fn", disk], { encoding: "utf8" });
  return status === 0 ? "" : stdout;
}

/** Owner, group and mode of files that are not root's alone. */
function owners(disk: string): string[] {
  const paths = [
    "/etc/shadow",
    "/usr/bin/passwd",
    "/usr/bin/wall",
    "/var/log/journal",
    "/var/cache/apt/archives/partial",
  ];
  const requests = join(dirname(disk), "requests");
  writeFileSync(requests, paths.map((path) => `stat ${path}\n`).join(""));
  const { stdout } = spawnSync(findProgram("debugfs")!, ["-f", requests, disk], { encoding: "utf8" });
  return [...stdout.matchAll(/Mode: +(\d+)|User: +(\d+) +Group: +(\d+)/g)].map(([found]) => found.replace(/ +/g, " "));
}

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
    assert.equal(faults(image.disk!), "");
  });

  test("a user with a range of ids builds the same without root", { skip: noNobody }, async () => {
    const home = join(place.path, "nobody");
    mkdirSync(home);
    chownSync(home, NOBODY, NOBODY);
    chmodSync(place.path, 0o755);
    const range = join(place.path, "range");
    writeFileSync(range, "nobody:200000:65536\n");
    // In a mount namespace of its own: the host's files stay as they are.
    const script = `for file in /etc/subuid /etc/subgid; do mount --bind "$0" "$file" || exit; done; exec "$@"`;
    const build = asNobody("image", "build", "debian");
    const args = ["--mount", "--fork", "--kill-child", "sh", "-c", script, range, ...build];
    const env = { PATH: process.env.PATH, HOME: home };
    const { stdout, stderr, status } = spawnSync("unshare", args, { encoding: "utf8", env });
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^debian: linux-image-\S+-cloud-amd64 .*, Debian bookworm\n$/);

    process.env.XDG_CACHE_HOME = join(home, ".cache");
    const theirs = await prepareImage("debian");
    assert.equal(faults(theirs.disk!), "");
    const files = owners(theirs.disk!);
    assert.ok(
      files.some((line) => line === "User: 0 Group: 42"),
      files.join("; "),
    );
    assert.deepEqual(files, owners(image.disk!));
    // And it is this one that the machines below have.
    image = theirs;
  });

  test("it boots to a login and to commands, switches itself off, and goes on with its disk", async () => {
    const options = { image: "debian", accel: "soft", memory: "1G", name: "long-lived" } as const;
    {
      const console = new Transcript();
      await using vm = await Machine.start({ ...options, console: console.write });
      const { stdout, status } = await vm.exec(["sh", "-c", "systemctl is-system-running --wait; hostname; id -un"]);
      assert.deepEqual([stdout, status], ["running\nlong-lived\nroot\n", 0]);
      const names = await vm.exec(["sh", "-c", "ip -4 -o address show scope global; getent ahostsv4 gateway"]);
      assert.match(names.stdout, /inet 10\.0\.2\.15\/24 .* dynamic .*\n10\.0\.2\.2 /);
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
