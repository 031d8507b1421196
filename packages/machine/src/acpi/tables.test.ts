/** ACPI's tables against ACPICA's compiler, which takes them apart and puts them together again. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Boot } from "../memory/address-map.ts";
import { acpiTables } from "./tables.ts";

const skip = spawnSync("iasl", ["-v"]).error === undefined ? false : "no iasl here: Debian's acpica-tools has it";

/** All tables that the root pointer leads to, by signature. */
function walk(bytes: Uint8Array): Map<string, Uint8Array> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const tableAt = (address: number) => {
    const at = address - Boot.ACPI;
    return bytes.subarray(at, at + view.getUint32(at + 4, true));
  };
  const tables = new Map<string, Uint8Array>();
  const xsdt = tableAt(Number(view.getBigUint64(24, true)));
  const entries = new DataView(xsdt.buffer, xsdt.byteOffset, xsdt.length);
  for (let at = 36; at < xsdt.length; at += 8) {
    const table = tableAt(Number(entries.getBigUint64(at, true)));
    const signature = Buffer.from(table.subarray(0, 4)).toString();
    tables.set(signature, table);
    if (signature === "FACP") {
      const { buffer, byteOffset, length } = table;
      tables.set("DSDT", tableAt(new DataView(buffer, byteOffset, length).getUint32(40, true)));
    }
  }
  return tables;
}

const options = {
  apicIds: Array.from({ length: 64 }, (_, index) => index),
  serialPorts: 2,
  highPciWindow: { start: 2 ** 38, sizeBytes: 2 ** 36 },
  nodes: [
    { cpus: [0, 1], memory: [{ start: 0, sizeBytes: 2 ** 30 }], distances: [10, 20] },
    { cpus: [2], memory: [{ start: 2 ** 32, sizeBytes: 2 ** 30 }], distances: [20, 10] },
  ],
};

test("the root pointer leads to every table, and all sums are 0", () => {
  const { bytes, generationId } = acpiTables(options);
  const sum = (part: Uint8Array) => part.reduce((total, byte) => total + byte, 0) & 0xff;
  assert.deepEqual([sum(bytes.subarray(0, 20)), sum(bytes.subarray(0, 36))], [0, 0]);
  const tables = walk(bytes);
  assert.deepEqual([...tables.keys()].toSorted(), ["APIC", "DSDT", "FACP", "MCFG", "SLIT", "SRAT"]);
  for (const [name, table] of tables) assert.equal(sum(table), 0, name);
  assert.ok(generationId % 8 === 0 && generationId >= Boot.ACPI + 36 && generationId < Boot.ACPI + bytes.length);
});

test("iasl finds nothing wrong with them", { skip }, (t) => {
  const folder = mkdtempSync(join(tmpdir(), "lodge-acpi-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const iasl = (...words: string[]) => {
    const { status, stdout, stderr } = spawnSync("iasl", words, { cwd: folder, encoding: "utf8" });
    return { status, said: stdout + stderr };
  };
  for (const [name, table] of walk(acpiTables(options).bytes)) {
    writeFileSync(join(folder, `${name}.dat`), table);
    const apart = iasl("-d", `${name}.dat`);
    assert.equal(apart.status, 0, apart.said);
    assert.doesNotMatch(apart.said, /error|warning|invalid|incorrect/i, name);
    const together = iasl("-p", "again", `${name}.dsl`);
    assert.match(together.said, /0 Errors, 0 Warnings/, `${name}: ${together.said}`);
  }
  const listing = readFileSync(join(folder, "DSDT.dsl"), "utf8");
  for (const device of ["PCI0", "COM1", "COM2", "RTC", "PEVT", "VGEN", "C000", "C03F"]) {
    assert.match(listing, new RegExp(`Device \\(${device}\\)`));
  }
});
