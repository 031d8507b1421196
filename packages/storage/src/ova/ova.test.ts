/** Appliances become machines: their descriptions, their disks, and what is refused. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempDisposableSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, test } from "node:test";
import { VIRTUALBOX, VMWARE } from "../../testing/appliances.ts";
import { randomBytes, randomNumbers } from "../../testing/bytes.ts";
import { MemoryStore } from "../../testing/memory-store.ts";
import { missing, run } from "../../testing/peers.ts";
import { StorageError } from "../errors.ts";
import { importAppliance } from "./import.ts";
import { parseOvf } from "./ovf.ts";
import { readTar } from "./tar.ts";

const skip = missing("qemu-img", "tar");
const MIB = 1 << 20;
const dir = mkdtempDisposableSync(join(tmpdir(), "lodge-ova-"));
test.after(() => dir.remove());
const at = (...names: string[]) => join(dir.path, ...names);

before(async () => {
  if (skip) return;
  const raw = Buffer.concat([randomBytes(MIB, 1), Buffer.alloc(8 * MIB), randomBytes(2 * MIB, 2)]);
  writeFileSync(at("raw"), raw);
  truncateSync(at("raw"), 16 * MIB);
  const options = ["-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized"];
  await run("qemu-img", "convert", ...options, at("raw"), at("web-disk1.vmdk"));
  await run("qemu-img", "convert", ...options, at("raw"), at("box-disk001.vmdk"));
  writeFileSync(at("web.ovf"), VMWARE);
  writeFileSync(at("box.ovf"), VIRTUALBOX);
  const digest = (name: string) =>
    createHash("sha256")
      .update(readFileSync(at(name)))
      .digest("hex");
  const lines = ["web.ovf", "web-disk1.vmdk"].map((name) => `SHA256(${name})= ${digest(name)}\n`);
  writeFileSync(at("web.mf"), lines.join(""));
});

test("VMware's machine, from an .ova", { skip }, async () => {
  const into = at("vmware");
  mkdirSync(into);
  for (const format of ["ustar", "gnu", "pax"]) {
    const ova = at(`${format}.ova`);
    await run("tar", `--format=${format}`, "-C", dir.path, "-cf", ova, "web.ovf", "web.mf", "web-disk1.vmdk");
    const steps = new Set<string>();
    const machine = await importAppliance(ova, { into, name: format, progress: (step) => steps.add(step) });
    assert.deepEqual(machine, {
      name: format,
      system: "Debian GNU/Linux 10 (64-bit)",
      firmware: "efi",
      cpus: 4,
      coresPerSocket: 2,
      memoryBytes: 3072 * MIB,
      disks: [
        { file: join(into, `${format}-disk1.qcow2`), format: "qcow2", capacityBytes: 16 * MIB, controller: "scsi" },
        { file: join(into, `${format}-disk2.qcow2`), format: "qcow2", capacityBytes: 2048 * MIB, controller: "scsi" },
      ],
      networks: [{ network: "VM Network", model: "VmxNet3" }],
    });
    assert.deepEqual([...steps], ["disk 1 of 2", "disk 2 of 2"]);
    const disk = machine.disks[0]!.file;
    assert.match(await run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", at("raw"), disk), /identical/);
    for (const { file } of machine.disks) await run("qemu-img", "check", file);
  }
  assert.ok(readdirSync(into).length === 6);
});

test("VirtualBox's machine, from an .ovf with its disk beside it, to a raw disk", { skip }, async () => {
  const into = at("box");
  mkdirSync(into);
  const machine = await importAppliance(at("box.ovf"), { into, format: "raw" });
  assert.deepEqual(machine, {
    name: "box",
    system: "Debian_64",
    firmware: "bios",
    cpus: 1,
    memoryBytes: 1024 * MIB,
    disks: [{ file: join(into, "box-disk1.raw"), format: "raw", capacityBytes: 16 * MIB, controller: "sata" }],
    networks: [{ network: "NAT", mac: "08:00:27:a1:b2:c3", model: "E1000" }],
  });
  assert.ok(readFileSync(join(into, "box-disk1.raw")).equals(readFileSync(at("raw"))));
});

test("what was changed on its way is refused, and leaves nothing", { skip }, async () => {
  const changed = at("changed");
  const into = at("nothing");
  mkdirSync(changed);
  mkdirSync(into);
  for (const name of ["web.ovf", "web.mf"]) writeFileSync(join(changed, name), readFileSync(at(name)));
  const disk = readFileSync(at("web-disk1.vmdk"));
  disk[disk.length >> 1]! ^= 1;
  writeFileSync(join(changed, "web-disk1.vmdk"), disk);
  await assert.rejects(importAppliance(join(changed, "web.ovf"), { into }), {
    code: "STORAGE_OPEN",
    message: /web-disk1\.vmdk is not what its manifest says/,
  });
  // Without a manifest the damage is found when the disk is unpacked, or not at all.
  writeFileSync(join(changed, "web-disk1.vmdk"), disk.subarray(0, 5 * 65536));
  writeFileSync(join(changed, "web.mf"), "");
  await assert.rejects(importAppliance(join(changed, "web.ovf"), { into }), {
    code: "STORAGE_IO",
    message: /web-disk1\.vmdk is damaged/,
  });
  await assert.rejects(importAppliance(at("web.ovf"), { into: at("none") }), { code: "STORAGE_OPEN" });
  assert.deepEqual(readdirSync(into), []);
  // What is there already stays.
  writeFileSync(join(into, "web-shop-disk1.qcow2"), "mine");
  await assert.rejects(importAppliance(at("web.ovf"), { into }), { code: "STORAGE_OPEN", message: /EEXIST/ });
  assert.equal(readFileSync(join(into, "web-shop-disk1.qcow2"), "utf8"), "mine");
});

const described = (change: (text: string) => string) => () => parseOvf(change(VMWARE));
for (const [title, attempt, message] of [
  ["no XML", () => parseOvf("<Envelope"), /is no XML/],
  ["other XML", () => parseOvf("<html/>"), /has no Envelope/],
  ["entities", () => parseOvf(`<!DOCTYPE x [<!ENTITY a "b">]>${VMWARE}`), /document type/],
  ["a file elsewhere", described((text) => text.replace('href="web-disk1', 'href="../../etc/')), /is not beside it/],
  [
    "a packed file",
    described((text) => text.replace('ovf:id="file1"', 'ovf:id="file1" ovf:compression="gzip"')),
    /gzip/,
  ],
  [
    "a file that is not named",
    described((text) => text.replace('id="file1"', 'id="file9"')),
    /not among its references/,
  ],
  [
    "a disk that is not described",
    described((text) => text.replace('diskId="vmdisk1"', 'diskId="x"')),
    /does not describe/,
  ],
  ["a strange unit", described((text) => text.replace("byte * 2^30", "furlongs")), /unit "furlongs"/],
  ["no memory", described((text) => text.replace(">3072<", "><")), /memory: NaN/],
  ["a million processors", described((text) => text.replace(">4<", ">1000000<")), /processors: 1000000/],
  [
    "two machines",
    described((text) => text.replace("</Envelope>", '<VirtualSystem ovf:id="b"/></Envelope>')),
    /2 machines/,
  ],
] as const) {
  test(`refused: ${title}`, () => {
    assert.throws(
      attempt,
      (error) => error instanceof StorageError && error.code === "STORAGE_OPEN" && message.test(error.message),
    );
  });
}

test("10,000 damaged archives and descriptions: nothing but errors", { skip }, async () => {
  await run("tar", "--format=pax", "-C", dir.path, "-cf", at("small.ova"), "web.ovf", "web.mf");
  const archive = readFileSync(at("small.ova"));
  const random = randomNumbers(3);
  for (let round = 0; round < 10_000; round++) {
    const damaged = Buffer.from(archive);
    for (let count = 1 + random(4); count > 0; count--) damaged[random(2048)] = random(256);
    await readTar(MemoryStore.of(damaged)).catch((error) => assert.ok(error instanceof StorageError, String(error)));
    const text = Buffer.from(VMWARE);
    for (let count = 1 + random(3); count > 0; count--) text[random(text.length)] = 32 + random(95);
    const cut = random(4) === 0 ? text.subarray(0, random(text.length)) : text;
    try {
      parseOvf(cut.toString());
    } catch (error) {
      assert.ok(error instanceof StorageError, `round ${round}: ${error}`);
    }
  }
});
