import assert from "node:assert/strict";
import { test } from "node:test";
import { noKvm } from "../testing/guest.ts";
import { openKvm } from "./linux/index.ts";
import { measureRingZero } from "./speed.ts";

test("an instruction in ring 0 takes some time, and not microseconds", { skip: noKvm }, () => {
  using kvm = openKvm();
  const ns = measureRingZero(kvm);
  assert.ok(ns > 0 && ns < 10_000, `${ns} ns`);
});
