/** Images from Debian's packages, by this system's own apt. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { after, suite, test } from "node:test";
import { applets } from "./busybox.ts";
import { imageStore, prepareImage, RECIPES } from "./store.ts";

const has = (program: string) => spawnSync(program, ["--help"]).error === undefined;
const missing = ["apt-get", "dpkg-deb", "cpio", "busybox"].find((program) => !has(program));
const skip = missing === undefined ? false : `${missing} is not installed`;

suite("the image store", { skip }, () => {
  const place = mkdtempSync(join(tmpdir(), "lodge-images-"));
  const before = process.env.XDG_CACHE_HOME;
  process.env.XDG_CACHE_HOME = place;
  after(() => {
    if (before === undefined) delete process.env.XDG_CACHE_HOME;
    else process.env.XDG_CACHE_HOME = before;
    rmSync(place, { recursive: true });
  });

  test("an unknown image is refused with those that there are", async () => {
    await assert.rejects(prepareImage("tinny"), { code: "VMM_IMAGE", message: /no image "tinny"; there is tiny/ });
  });

  test("a build that is given up leaves nothing", async () => {
    await assert.rejects(prepareImage("tiny", { signal: AbortSignal.abort() }), { name: "AbortError" });
    assert.deepEqual(readdirSync(imageStore()), []);
  });

  test("tiny is built once, with modules that modprobe can load and a program for every name", async () => {
    mkdirSync(join(imageStore(), `unfinished.${spawnSync("true").pid}-abc`));
    mkdirSync(join(imageStore(), `tiny-0.${spawnSync("true").pid}-def`));
    const steps: string[] = [];
    const image = await prepareImage("tiny", { progress: (step) => steps.push(step) });
    assert.equal(steps.length, 3);
    assert.deepEqual(readdirSync(imageStore()), [`tiny-${RECIPES[0]!.version}`, basename(dirname(image.kernel))]);
    assert.match(image.made[0]!, /^linux-image-\S+-cloud-amd64 \S+$/);
    assert.equal(readFileSync(image.kernel).toString("latin1", 0x202, 0x206), "HdrS");

    const tree = join(place, "tree");
    mkdirSync(tree);
    // cpio warns of the device node where it may not make one; everything else is checked below.
    spawnSync("cpio", ["-idm", "--no-absolute-filenames"], { cwd: tree, input: readFileSync(image.initrd) });
    const modules = join(tree, "lib/modules");
    const release = readdirSync(modules)[0]!;
    const order = showOrder(modules, release, "virtio_net");
    assert.ok(order.indexOf("virtio_ring") < order.indexOf("virtio"), order.join());
    assert.equal(order.at(-1), "virtio_net");
    const alias = readFileSync(join(modules, release, "modules.alias"), "utf8");
    assert.match(alias, /^alias virtio:d00000002v\* virtio_blk$/m);

    const listed = spawnSync("busybox", ["--list"]).stdout.toString().trim().split("\n");
    assert.deepEqual(applets(readFileSync(join(tree, "bin/busybox"))).toSorted(), listed.toSorted());

    const again: string[] = [];
    assert.deepEqual(await prepareImage("tiny", { progress: (step) => again.push(step) }), image);
    assert.deepEqual(again, []);
  });

  test("older versions stay for those who use them, and go when nobody has for long", async () => {
    const { version } = RECIPES[0]!;
    const gone = spawnSync("true").pid;
    const old = (number: number, days: number) => {
      const directory = join(imageStore(), `tiny-${number}.${gone}-old`);
      mkdirSync(directory);
      for (const file of ["kernel", "initrd"]) writeFileSync(join(directory, file), "");
      writeFileSync(join(directory, "image.json"), JSON.stringify({ name: "tiny", append: "", made: [] }));
      const used = Date.now() / 1000 - days * 24 * 60 * 60;
      utimesSync(join(directory, "kernel"), used, used);
      symlinkSync(basename(directory), join(imageStore(), `tiny-${number}`));
    };
    old(version - 1, 29);
    old(version - 2, 31);
    // What a newer Lodge has built is not ours to judge.
    old(version + 1, 31);
    await prepareImage("tiny", { rebuild: true });
    const left = readdirSync(imageStore());
    const links = left.filter((name) => !name.includes("."));
    assert.deepEqual(links, [`tiny-${version - 1}`, `tiny-${version}`, `tiny-${version + 1}`]);
    assert.deepEqual(
      left.filter((name) => name.endsWith("-old")),
      [`tiny-${version - 1}.${gone}-old`, `tiny-${version + 1}.${gone}-old`],
    );
  });

  test("two builds side by side are both whole, and one of them is the image", async () => {
    const images = await Promise.all([1, 2].map(() => prepareImage("tiny", { rebuild: true })));
    assert.deepEqual(readFileSync(images[0]!.initrd), readFileSync(images[1]!.initrd));
    const image = await prepareImage("tiny");
    assert.ok(images.some(({ kernel }) => kernel === image.kernel));
  });
});

/** The modules that depmod's reader would load, in its order: the line of modules.dep from right to left. */
function showOrder(modules: string, release: string, name: string): string[] {
  const line = readFileSync(join(modules, release, "modules.dep"), "utf8").match(
    new RegExp(`^${name}\\.ko:.*$`, "m"),
  )![0];
  const [own, ...needed] = line.replace(":", "").trim().split(" ");
  return [own!, ...needed].reverse().map((file) => file.replace(".ko", ""));
}
