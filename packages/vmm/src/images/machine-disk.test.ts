import assert from "node:assert/strict";
import { existsSync, mkdtempDisposableSync, readdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, suite, test } from "node:test";
import { openImage } from "@lodge/storage";
import { machineDisk } from "./machine-disk.ts";

suite("a machine's own disk", () => {
  const folder = mkdtempDisposableSync(join(tmpdir(), "lodge-machine-disk-"));
  const before = process.env.XDG_DATA_HOME;
  process.env.XDG_DATA_HOME = folder.path;
  after(() => {
    if (before === undefined) delete process.env.XDG_DATA_HOME;
    else process.env.XDG_DATA_HOME = before;
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

  test("a copy that is given up leaves nothing half made", async () => {
    const signal = AbortSignal.abort();
    await assert.rejects(machineDisk(base, "given-up", false, signal), { name: "AbortError" });
    assert.deepEqual(readdirSync(join(folder.path, "lodge", "machines")), []);
  });
});
