import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempDisposableSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { runLine } from "./import.ts";

const bin = join(import.meta.dirname, "../../bin/lodge.js");
const skip = spawnSync("qemu-img", ["--version"]).error !== undefined && "qemu-img is not installed";

/** The least that a description says. */
const OVF = `<Envelope xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
  <References><File ovf:id="f" ovf:href="a.vmdk"/></References>
  <DiskSection><Disk ovf:diskId="d" ovf:fileRef="f" ovf:capacity="4" ovf:capacityAllocationUnits="byte * 2^20"/></DiskSection>
  <VirtualSystem ovf:id="small"><VirtualHardwareSection>
    <Item><ResourceType>3</ResourceType><VirtualQuantity>2</VirtualQuantity></Item>
    <Item><ResourceType>4</ResourceType><VirtualQuantity>512</VirtualQuantity></Item>
    <Item><ResourceType>17</ResourceType><HostResource>/disk/d</HostResource></Item>
    <Item><ResourceType>10</ResourceType><Address>52:54:00:12:34:56</Address><Connection>LAN</Connection></Item>
  </VirtualHardwareSection></VirtualSystem>
</Envelope>`;

function lodge(cwd: string, ...args: string[]) {
  return spawnSync(process.execPath, [bin, "image", "import", ...args], { cwd, encoding: "utf8" });
}

test("an appliance's disk and definition, and the command that runs it", { skip }, () => {
  using dir = mkdtempDisposableSync(join(tmpdir(), "lodge-import-"));
  writeFileSync(join(dir.path, "a.ovf"), OVF);
  spawnSync("qemu-img", ["create", "-f", "vmdk", "-o", "subformat=streamOptimized", join(dir.path, "a.vmdk"), "4M"]);
  const { status, stdout, stderr } = lodge(dir.path, "a.ovf");
  assert.deepEqual([status, stderr], [0, ""]);
  assert.equal(
    stdout,
    "# small, bios; 1 disks, 1 network cards\n" +
      "lodge run --cpus 2 --memory 512M --disk small-disk1.qcow2,format=qcow2 --net nat,mac=52:54:00:12:34:56\n",
  );
  const definition = JSON.parse(readFileSync(join(dir.path, "small.json"), "utf8"));
  assert.deepEqual(definition.disks, [{ file: "small-disk1.qcow2", format: "qcow2", capacityBytes: 4 << 20 }]);
  const check = spawnSync("qemu-img", ["check", join(dir.path, "small-disk1.qcow2")], { encoding: "utf8" });
  assert.equal(check.status, 0, check.stderr);
  const again = lodge(dir.path, "a.ovf");
  assert.equal(again.status, 2);
  assert.match(again.stderr, /^lodge: small-disk1\.qcow2 cannot be opened: EEXIST[^\n]*\n$/);
  const other = lodge(dir.path, "--json", "--name", "other", "-O", "raw", "a.ovf");
  assert.equal(JSON.parse(other.stdout).disks[0].file, "other-disk1.raw");
});

test("what is no appliance: one line, status 2 and nothing made", () => {
  using dir = mkdtempDisposableSync(join(tmpdir(), "lodge-import-"));
  writeFileSync(join(dir.path, "a.ova"), "no archive".repeat(100));
  for (const [args, message] of [
    [["a.ova"], /a\.ova: no tar header at 0/],
    [["none.ova"], /none\.ova cannot be opened: ENOENT/],
    [["--name", "../x", "a.ova"], /--name \.\.\/x/],
    [["-O", "vdi", "a.ova"], /Allowed choices are qcow2, raw/],
  ] as const) {
    const { status, stdout, stderr } = lodge(dir.path, ...args);
    assert.deepEqual([status, stdout], [2, ""], stderr);
    assert.match(stderr, message);
    assert.match(stderr, /^lodge: [^\n]*\n$/);
  }
  assert.deepEqual(readdirSync(dir.path), ["a.ova"]);
});

test("words that a shell would take apart are quoted", () => {
  const disks = [{ file: "a b,c'd.qcow2", format: "qcow2", capacityBytes: 512 } as const];
  const machine = {
    name: "x",
    firmware: "bios",
    cpus: 4,
    coresPerSocket: 2,
    memoryBytes: 2 ** 30,
    networks: [],
  } as const;
  assert.equal(
    runLine({ ...machine, disks, networks: [{ network: "" }] }),
    "lodge run --cpus 4,sockets=2,cores=2 --memory 1G --disk 'a b,,c'\\''d.qcow2,format=qcow2' --net nat",
  );
});
