/** A host whose file system is full: one line that says so, status 2, and nothing left behind. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempDisposableSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { RECIPES } from "@lodge/vmm";

const bin = join(import.meta.dirname, "../../bin/lodge.js");
const MIB = 1 << 20;

/** In a mount namespace with a file system of a megabyte at `$0`, which nobody else sees, and a sparse file that fills it; what is left there is printed. */
const SCRIPT = `
  mount -t tmpfs -o size=1M none "$0" && head -c 1000000 /dev/zero >"$0/full" && truncate -s 64M "$0/full" || exit 99
  "$@"
  status=$?
  find "$0" -type f ! -name full
  exit $status`;
const namespace = ["--user", "--map-root-user", "--mount", "--fork", "--kill-child"];
const skip = spawnSync("unshare", [...namespace, "true"]).status === 0 ? false : "no user namespaces here";

suite("a full disk", { skip }, () => {
  function lodge(place: string, env: Record<string, string>, ...args: string[]) {
    const command = [...namespace, "sh", "-c", SCRIPT, place, process.execPath, bin, ...args];
    return spawnSync("unshare", command, { encoding: "utf8", env: { ...process.env, ...env } });
  }

  test("an image cannot be built", () => {
    using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-full-"));
    const { stdout, stderr, status } = lodge(folder.path, { XDG_CACHE_HOME: folder.path }, "image", "build", "tiny");
    assert.match(stderr, /^lodge: building the image tiny takes 256 MiB in \S+, where 0 MiB are free: make room.*\n$/);
    // Node's own, where there is still room for nothing.
    assert.deepEqual([stdout.replace(/^.*\/lodge\/compiled\/.*\n/gm, ""), status], ["", 2]);
  });

  test("a copy of an image finds no room, and is gone", () => {
    using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-full-"));
    const [source, full] = [join(folder.path, "source"), join(folder.path, "full")];
    writeFileSync(source, Buffer.alloc(4 * MIB, 1));
    mkdirSync(full);
    for (const format of ["raw", "qcow2"]) {
      const copy = ["image", "convert", "-f", "raw", "-O", format, source, join(full, "copy")];
      const { stdout, stderr, status } = lodge(full, {}, ...copy);
      assert.match(stderr, /^lodge: \S+\/full\/copy: write failed: .*no space left on device.*\n$/i);
      assert.deepEqual([stdout, status], ["", 2]);
    }
  });

  test("a machine's own disk, and a file for its memory, find no room", () => {
    using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-full-"));
    const full = join(folder.path, "full");
    mkdirSync(full);
    const env = { XDG_CACHE_HOME: join(folder.path, "cache"), XDG_DATA_HOME: full };
    // As a build leaves it, but for what is in it.
    const name = `debian-${RECIPES.find(({ name }) => name === "debian")!.version}`;
    const place = join(env.XDG_CACHE_HOME, "lodge", "images", name);
    mkdirSync(place, { recursive: true });
    for (const name of ["kernel", "initrd", "disk.raw"]) writeFileSync(join(place, name), Buffer.alloc(4 * MIB, 1));
    writeFileSync(join(place, "image.json"), JSON.stringify({ name: "debian", append: "", made: [] }));

    const disk = lodge(full, env, "run", "debian", "--accel", "soft", "--name", "web", "--", "true");
    assert.match(disk.stderr, /^lodge: \S+\/unfinished\.\S+: .*no space left on device.*\n$/);
    assert.deepEqual([disk.stdout, disk.status], ["", 2]);

    const file = join(full, "memory");
    const memory = lodge(full, env, "run", "debian", "--accel", "soft", "--memory", `64M,file=${file}`, "--", "true");
    assert.match(
      memory.stderr,
      /^lodge: the machine's memory takes 64\.0 MiB in \S+, and its file system has .* free\n$/,
    );
    assert.deepEqual([memory.stdout, memory.status], ["", 2]);

    const sparse = join(full, "full");
    const pmem = lodge(full, env, "run", "debian", "--accel", "soft", "--pmem", sparse, "--", "true");
    assert.match(pmem.stderr, /^lodge: persistent memory takes 63\.0 MiB in \S+, and its file system has .* free\n$/);
    assert.deepEqual([pmem.stdout, pmem.status], ["", 2]);
  });
});
