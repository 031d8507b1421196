/** Every declared layout against the kernel's own headers: sizes of structures, offsets and sizes of their fields. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Expression, evaluateWithKvmHeader, noKernelHeaders } from "../../testing/c-program.ts";
import * as events from "./events.ts";
import * as interrupts from "./interrupts.ts";
import * as registers from "./registers.ts";
import * as run from "./run.ts";
import type { ArrayField, FieldType, Struct } from "./struct.ts";
import * as vm from "./vm.ts";

// biome-ignore lint/suspicious/noExplicitAny: any layout will do
type Layout = Struct<any>;

/** Fields whose name is not the kernel's in camel case; of some, only where they begin can be compared. */
const EXCEPTIONS: Record<string, { c: string; offsetOnly?: true }> = {
  // The union of all exits begins with its first member and is as large as its padding.
  "kvm_run.exit": { c: "padding" },
  "kvm_run.sync": { c: "s" },
  // Until Linux 6.4 these 64 bits were two fields.
  "kvm_run.hypercall.flags": { c: "longmode", offsetOnly: true },
  "kvm_guest_debug.debugreg": { c: "arch.debugreg" },
  "kvm_irq_routing_entry.irqchip": { c: "u.irqchip.irqchip" },
  "kvm_irq_routing_entry.pin": { c: "u.irqchip.pin" },
  "kvm_irq_routing_entry.addressLo": { c: "u.msi.address_lo" },
  "kvm_irq_routing_entry.addressHi": { c: "u.msi.address_hi" },
  "kvm_irq_routing_entry.data": { c: "u.msi.data" },
  "kvm_irq_routing_entry.devid": { c: "u.msi.devid" },
};

/** Structures that headers older than Linux 6.8 lack, by a macro that came with them. */
const NEWER: Record<string, string> = { "kvm_run.memory_fault": "KVM_EXIT_MEMORY_FAULT" };

/** How many comparisons there are; fewer mean that something escaped them. */
const EXPECTED = 600;

interface Check extends Expression {
  what: string;
  ours: number;
}

/** The comparisons for one layout. `kvm_run.mmio` is a member of `struct kvm_run`, the rest are structures. */
function checksOf(layout: Layout): Check[] {
  const [type, ...path] = layout.name.split(".");
  const structure = `struct ${type}`;
  const member = (field: string) => [...path, field].join(".");
  const sizeOf = (field: string) => `sizeof(((${structure} *) 0)->${field})`;
  const base = path.length > 0 ? ` - offsetof(${structure}, ${path.join(".")})` : "";
  const needs = NEWER[layout.name] === undefined ? {} : { needs: NEWER[layout.name]! };

  const size = path.length > 0 ? sizeOf(path.join(".")) : `sizeof(${structure})`;
  const checks: Check[] = [{ what: `sizeof ${layout.name}`, c: size, ours: layout.size, ...needs }];
  for (const [key, field] of Object.entries(layout.fields as Record<string, FieldType<unknown>>)) {
    if (field.padding) continue;
    const what = `${layout.name}.${key}`;
    const { c, offsetOnly } = EXCEPTIONS[what] ?? { c: snakeCase(key), offsetOnly: undefined };
    checks.push({ what, c: `offsetof(${structure}, ${member(c)})${base}`, ours: layout.offset[key]!, ...needs });
    if (!offsetOnly) checks.push({ what: `sizeof ${what}`, c: sizeOf(member(c)), ours: field.size, ...needs });
  }
  return checks;
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** What a module declares, with the structures inside. */
function layoutsIn(values: Iterable<unknown>): Layout[] {
  return [...values].flatMap((value) => {
    const field = (value as Partial<ArrayField<unknown>> | undefined)?.element ?? value;
    if (typeof field !== "object" || field === null || !("fields" in field)) return [];
    const layout = field as Layout;
    return [layout, ...layoutsIn(Object.values(layout.fields))];
  });
}

const declared = [events, interrupts, registers, run, vm].flatMap((module) =>
  layoutsIn(Object.values<unknown>(module)).concat("RunExit" in module ? layoutsIn(Object.values(module.RunExit)) : []),
);

test("sizes and offsets are those of linux/kvm.h", { skip: noKernelHeaders() }, (t) => {
  const checks = [...new Set(declared)].flatMap(checksOf);
  const theirs = evaluateWithKvmHeader(checks);
  let compared = 0;
  for (const [index, { what, ours }] of checks.entries()) {
    if (theirs[index] === undefined) continue;
    assert.equal(BigInt(ours), theirs[index], what);
    compared += 1;
  }
  t.diagnostic(`${compared} sizes and offsets compared, ${checks.length - compared} newer than these headers`);
  assert.ok(compared >= EXPECTED, `only ${compared} compared`);
  assert.ok(checks.length - compared <= 7, "more is absent than struct kvm_run.memory_fault");
});

test("the two forms of a routing entry have one size", () => {
  assert.equal(interrupts.ChipRoutingEntry.size, interrupts.MsiRoutingEntry.size);
});

test("what an exit says lies inside the union", () => {
  const union = run.Run.fields.exit.size;
  for (const layout of Object.values(run.RunExit)) assert.ok(layout.size <= union, layout.name);
});
