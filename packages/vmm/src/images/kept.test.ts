/** What is kept, who uses it, and that what is used stays. */

import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempDisposableSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, beforeEach, suite, test } from "node:test";
import { openImage } from "@lodge/storage";
import { keptImages, removeKept } from "./kept.ts";
import { machineDisk, machineDiskFile, machinesFolder } from "./machine-disk.ts";
import { imagePlace, imageStore, RECIPES } from "./store.ts";

const MIB = 1 << 20;

suite("what is kept", () => {
  const folder = mkdtempDisposableSync(join(tmpdir(), "lodge-kept-"));
  const names = ["XDG_CACHE_HOME", "XDG_DATA_HOME"] as const;
  const before = names.map((name) => process.env[name]);
  let count = 0;
  beforeEach(() => {
    count += 1;
    for (const name of names) process.env[name] = join(folder.path, `${name}-${count}`);
  });
  after(() => {
    names.forEach((name, index) => {
      if (before[index] === undefined) delete process.env[name];
      else process.env[name] = before[index];
    });
    folder.remove();
  });

  /** As a build leaves it. */
  function build(name: string, disk: boolean): string {
    const link = imagePlace(RECIPES.find((recipe) => recipe.name === name)!);
    const place = `${link}.1-abc`;
    mkdirSync(place, { recursive: true });
    writeFileSync(join(place, "kernel"), Buffer.alloc(MIB, 1));
    writeFileSync(join(place, "initrd"), Buffer.alloc(MIB, 1));
    writeFileSync(join(place, "image.json"), JSON.stringify({ name, append: "", made: [] }));
    if (disk) writeFileSync(join(place, "disk.raw"), Buffer.alloc(4 * MIB, 1));
    symlinkSync(`${place.slice(imageStore().length + 1)}`, link);
    return place;
  }

  const find = async (name: string) => (await keptImages()).find((one) => one.name === name);

  test("where nothing is, there is what can be built", async () => {
    const kept = await keptImages();
    assert.deepEqual(
      kept.map(({ name, built, storedBytes, inUse }) => [name, built, storedBytes, inUse]),
      RECIPES.map(({ name }) => [name, false, 0, false]),
    );
  });

  test("an image is listed with what it takes, and is removed as a whole", async () => {
    const place = build("tiny", false);
    const tiny = (await find("tiny"))!;
    assert.deepEqual([tiny.built, tiny.path, tiny.diskBytes, tiny.inUse], [true, place, undefined, false]);
    assert.ok(tiny.storedBytes >= 2 * MIB && tiny.storedBytes < 3 * MIB, `${tiny.storedBytes}`);
    await removeKept("tiny");
    assert.deepEqual(readdirSync(imageStore()), []);
    assert.equal((await find("tiny"))?.built, false);
    await assert.rejects(removeKept("tiny"), { code: "VMM_IMAGE", message: /no "tiny": it is not built/ });
  });

  test("an image that a machine's disk lies upon is in use, and stays until it is not", async () => {
    const base = join(build("debian", true), "disk.raw");
    assert.deepEqual([(await find("debian"))?.diskBytes, (await find("debian"))?.inUse], [4 * MIB, false]);
    const disk = await machineDisk(base, undefined, false);
    const image = await openImage(disk.file, { format: "qcow2" });
    assert.equal((await find("debian"))?.inUse, true);
    await assert.rejects(removeKept("debian"), { code: "STORAGE_OPEN", message: /in use by another process/ });
    assert.ok(existsSync(base));
    await image.close();
    await disk[Symbol.asyncDispose]();
    await removeKept("debian");
    assert.deepEqual(readdirSync(imageStore()), []);
  });

  test("a machine's disk is listed by the machine's name, and stays while the machine has it", async () => {
    const base = join(build("debian", true), "disk.raw");
    const { file } = await machineDisk(base, "web", false);
    const image = await openImage(file, { format: "qcow2" });
    const running = (await find("machines/web"))!;
    assert.deepEqual([running.path, running.diskBytes, running.inUse], [file, 4 * MIB, true]);
    assert.ok(running.storedBytes >= 4 * MIB, `${running.storedBytes}`);
    await assert.rejects(removeKept("machines/web"), { code: "STORAGE_OPEN", message: /in use by another process/ });
    await image.close();
    assert.equal((await find("machines/web"))?.inUse, false);
    await removeKept("machines/web");
    assert.deepEqual(readdirSync(machinesFolder()), []);
    await assert.rejects(removeKept("machines/web"), { code: "VMM_IMAGE", message: /no machine of this name/ });
  });

  test("what else is in a machine's folder stays; a damaged disk is listed and can be removed", async () => {
    const file = machineDiskFile("web");
    mkdirSync(join(file, ".."), { recursive: true });
    writeFileSync(file, Buffer.alloc(512));
    writeFileSync(join(file, "..", "notes"), "");
    const disk = (await find("machines/web"))!;
    assert.deepEqual([disk.path, disk.diskBytes, disk.inUse], [file, undefined, false]);
    await removeKept("machines/web");
    assert.deepEqual(readdirSync(join(machinesFolder(), "web")), ["notes"]);
  });

  test("a name that leads elsewhere is none", async () => {
    mkdirSync(machinesFolder(), { recursive: true });
    const outside = join(machinesFolder(), "..", "outside");
    mkdirSync(outside);
    writeFileSync(join(outside, "disk.qcow2"), Buffer.alloc(512));
    for (const name of ["machines/../outside", "machines/", "machines/.", "web", ""]) {
      await assert.rejects(removeKept(name), { code: "VMM_IMAGE" }, name);
    }
    assert.deepEqual(readdirSync(outside), ["disk.qcow2"]);
  });
});
