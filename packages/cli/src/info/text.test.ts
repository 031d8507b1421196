/** Reports in words, of hosts that this one is not. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { host } from "../../testing/host.ts";
import { accelerator } from "./accelerator.ts";
import type { PresentKvm } from "./kvm.ts";
import { capabilities, kvm } from "./kvm.ts";
import { layOut, wrap } from "./layout.ts";
import { gather, type Report } from "./report.ts";
import { sections } from "./text.ts";

const empty = host({});

const present: PresentKvm = {
  present: true,
  device: "/dev/kvm",
  apiVersion: 12,
  module: "kvm_amd",
  guestKernels: "executed",
  ringZeroNs: 0.4,
  speedError: undefined,
  nested: true,
  memoryEncryption: ["SEV", "SEV-ES"],
  capabilities: { IRQCHIP: 1, NR_MEMSLOTS: 32764 },
};

/** A row of the report's text, by its label. */
function row(report: Report, label: string): string {
  return sections(report)
    .flatMap(({ rows }) => rows)
    .find(([text]) => text === label)![1];
}

function withKvm(found: Report["kvm"]): Report {
  return { ...gather(empty, "/dev/no-such-kvm"), kvm: found, accelerator: accelerator(found) };
}

test("a host of which nothing is known is still told about", () => {
  const report = gather(empty, "/dev/no-such-kvm");
  assert.equal(report.kvm.present, false);
  assert.match(row(report, "kvm"), /^no KVM on this host .*load kvm_intel or kvm_amd/);
  assert.match(row(report, "auto"), /^soft, because no KVM can be used/);
  assert.match(row(report, "soft"), /^the software processor, model x86-64-v2; [0-9.]+ ns/);
  assert.ok(!sections(report).some(({ title }) => title === "Capabilities"));
  assert.match(layOut(sections(report), 80), /^Accelerators\n {2}auto {9}soft/);
});

test("KVM that executes guest kernels is taken", () => {
  const report = withKvm(present);
  assert.equal(row(report, "device"), "/dev/kvm, API version 12, kvm_amd");
  assert.equal(row(report, "kvm"), "executes guest kernels (0.4 ns an instruction)");
  assert.equal(row(report, "nested KVM"), "yes: a guest can run KVM itself");
  assert.equal(row(report, "encryption"), "SEV, SEV-ES");
  assert.equal(row(report, "auto"), "kvm, because KVM executes guest kernels here");
  assert.match(row(report, "interrupts"), /^IRQCHIP; lacks SPLIT_IRQCHIP, /);
  assert.match(row(report, "sizes"), /NR_MEMSLOTS.32764/);
});

test("KVM that interprets guest kernels is not, and both are said", () => {
  const report = withKvm({ ...present, guestKernels: "interpreted", ringZeroNs: 612.3 });
  assert.equal(row(report, "kvm"), "interprets guest kernels at about 612 ns an instruction");
  assert.equal(report.accelerator.auto, "soft");
  assert.match(row(report, "auto"), /^soft, because KVM interprets guest kernels here/);
});

test("KVM whose speed could not be measured says why", () => {
  const report = withKvm({ ...present, guestKernels: undefined, ringZeroNs: undefined, speedError: "no memory" });
  assert.equal(row(report, "kvm"), "could not be measured: no memory");
  assert.equal(report.accelerator.auto, "kvm");
});

test("something else at KVM's place is no KVM", () => {
  const found = kvm(empty, "/dev/null");
  assert.ok(!found.present);
  assert.match(found.reason, /is not KVM's device/);
});

test("capabilities: known ones always, unknown ones by number when they answer", () => {
  const found = capabilities((number) => (number === 0 ? 1 : number === 299 ? 7 : 0));
  assert.equal(found.IRQCHIP, 1);
  assert.equal(found.XSAVE2, 0);
  assert.equal(found["299"], 7);
  assert.equal(found["298"], undefined);
});

test("text breaks at spaces, and a long word stands alone", () => {
  assert.deepEqual(wrap("one two three", 7), ["one two", "three"]);
  assert.deepEqual(wrap("a incomprehensibilities b", 5), ["a", "incomprehensibilities", "b"]);
  assert.deepEqual(wrap("", 5), [""]);
  assert.equal(
    layOut(
      [
        {
          title: "T",
          rows: [
            ["label", "one two"],
            ["x", "y"],
          ],
        },
      ],
      15,
    ),
    "T\n  label  one\n         two\n  x      y",
  );
});
