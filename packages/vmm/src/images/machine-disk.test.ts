import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempDisposableSync, readdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, suite, test } from "node:test";
import { openImage } from "@lodge/storage";
import { Machine } from "../machine.ts";
import { debian } from "./debian.ts";
import { machineDisk, machinesFolder } from "./machine-disk.ts";
import { imagePlace } from "./store.ts";

suite("a machine's own disk", () => {
  const folder = mkdtempDisposableSync(join(tmpdir(), "lodge-machine-disk-"));
  const { XDG_DATA_HOME, XDG_CACHE_HOME } = process.env;
  process.env.XDG_DATA_HOME = folder.path;
  process.env.XDG_CACHE_HOME = join(folder.path, "cache");
  after(() => {
    for (const [name, before] of Object.entries({ XDG_DATA_HOME, XDG_CACHE_HOME })) {
      if (before === undefined) delete process.env[name];
      else process.env[name] = before;
    }
    folder.remove();
  });
  const base = join(folder.path, "base.raw");
  writeFileSync(base, Buffer.alloc(1 << 20, "image"));

  async function use(file: string, write?: string): Promise<string> {
    const image = await openImage(file, { format: "qcow2" });
    const bytes = Buffer.alloc(10);
    await image.read(5, [bytes]);
    if (write !== undefined) await image.write(5, [Buffer.from(write)]);
    await image.close();
    return bytes.toString();
  }

  test("without a name it holds what the machine writes, and is gone with it", async () => {
    const disk = await machineDisk(base, undefined, false);
    assert.equal(await use(disk.file, "changed"), "imageimage");
    assert.equal(await use(disk.file), "changedage");
    await disk[Symbol.asyncDispose]();
    assert.equal(existsSync(dirname(disk.file)), false);
    await using next = await machineDisk(base, undefined, false);
    assert.equal(await use(next.file), "imageimage");
  });

  test("with a name it stays, whatever becomes of the image, until nothing shall stay", async () => {
    const own = join(folder.path, "base2.raw");
    writeFileSync(own, Buffer.alloc(1 << 20, "image"));
    {
      await using disk = await machineDisk(own, "web", false);
      disk.begun();
      assert.equal(disk.file, join(folder.path, "lodge", "machines", "web", "disk.qcow2"));
      await use(disk.file, "changed");
    }
    writeFileSync(own, Buffer.alloc(1 << 20, "newer"));
    {
      await using disk = await machineDisk(own, "web", true);
      assert.deepEqual(readdirSync(dirname(disk.file)), ["disk.qcow2"]);
      assert.equal(await use(disk.file), "changedage");
      // Another machine of this name cannot have it meanwhile.
      const image = await openImage(disk.file, { format: "qcow2" });
      await assert.rejects(openImage(disk.file, { format: "qcow2" }), { code: /^STORAGE_/ });
      await image.close();
    }
    assert.deepEqual(readdirSync(join(folder.path, "lodge", "machines")), []);
  });

  test("a new one goes when its machine does not begin, unless another machine has come to it", async () => {
    const machines = () => readdirSync(machinesFolder());
    await (await machineDisk(base, "never", false))[Symbol.asyncDispose]();
    assert.deepEqual(machines(), []);

    const second = await machineDisk(base, "again", false);
    const other = await openImage(second.file, { format: "qcow2" });
    await second[Symbol.asyncDispose]();
    await other.close();
    assert.deepEqual(machines(), ["again"]);
    // It was there before: not for this one to take away.
    await (await machineDisk(base, "again", false))[Symbol.asyncDispose]();
    assert.deepEqual(machines(), ["again"]);
    await (await machineDisk(base, "again", true))[Symbol.asyncDispose]();

    const image = imagePlace(debian);
    mkdirSync(image, { recursive: true });
    for (const [name, content] of Object.entries({
      kernel: "#!/bin/sh",
      initrd: "",
      "disk.raw": Buffer.alloc(1 << 20),
    }))
      writeFileSync(join(image, name), content);
    writeFileSync(join(image, "image.json"), JSON.stringify({ name: "debian", append: "", made: [] }));
    await assert.rejects(Machine.start({ image: "debian", name: "web", accel: "soft" }), /begins with #!/);
    assert.deepEqual(machines(), []);
  });

  test("a copy that is given up leaves nothing half made", async () => {
    const signal = AbortSignal.abort();
    await assert.rejects(machineDisk(base, "given-up", false, signal), { name: "AbortError" });
    assert.deepEqual(readdirSync(join(folder.path, "lodge", "machines")), []);
  });
});
