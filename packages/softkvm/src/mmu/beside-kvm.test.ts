/**
 * Accesses through random 4-level page tables, by the guest on /dev/kvm and by the walker. Ring 3 runs on the processor,
 * ring 0 in KVM's own walker. LODGE_SEED repeats a run; LODGE_CASES says how many. On AMD's processors bit 8 of the upper levels' entries
 * is reserved (APM vol. 2, 5.3.3).
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { noKvm } from "../../testing/beside-kvm.ts";
import { PageTablesBesideKvm } from "../../testing/page-tables-beside-kvm.ts";
import { notIntel } from "../../testing/vendor.ts";

const { LODGE_SEED, LODGE_CASES, LODGE_LONG } = process.env;
const seed = LODGE_SEED === undefined ? Date.now() % 1_000_000_000 : Number(LODGE_SEED);
const cases = Number(LODGE_CASES ?? (LODGE_LONG ? 50_000 : 2_000));

test(`${cases} accesses through random page tables do what they do on KVM (seed ${seed})`, {
  skip: noKvm || notIntel,
}, (t) => {
  using both = new PageTablesBesideKvm();
  const endings = new Map<string, number>();
  let compared = 0;
  for (let index = 0; index < cases; index++) {
    const { what, ending, skipped, differences } = both.compare(seed, index);
    endings.set(ending, (endings.get(ending) ?? 0) + 1);
    if (skipped === undefined) compared++;
    assert.deepEqual(differences, [], what);
  }
  t.diagnostic(`${compared} compared: ${JSON.stringify(Object.fromEntries(endings))}`);
  assert.ok(compared > cases / 2, `only ${compared} were compared`);
});
