/** The harness itself: cases that ought to fail do, and say why; nothing of a case is left open. */

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { ExitReason, KvmError, type Vm } from "../src/index.ts";
import type { Case, Host } from "./case.ts";
import { CheckFailed, equal, refused } from "./check.ts";
import { long } from "./guest.ts";
import { openKvmHost } from "./node/kvm-host.ts";
import { Session } from "./session.ts";
import { allGuests, runCase, suite } from "./suite.ts";

test("values are compared by their content, and the first difference is named", () => {
  equal({ a: [1n, Uint8Array.of(1, 2)] }, { a: [1n, Uint8Array.of(1, 2)] }, "the same");
  const fails = (actual: unknown, expected: unknown, words: string) =>
    assert.throws(
      () => equal(actual, expected, "it"),
      (error: Error) => error instanceof CheckFailed && error.message.includes(words),
    );
  fails(1, 2, "it: expected 0x2, got 0x1");
  fails(1, 1n, "expected 0x1, got 0x1");
  fails({ a: { b: 1 } }, { a: { b: 2 } }, "first difference at a.b");
  fails({ a: 1 }, { a: 1, b: undefined, c: 2 }, "first difference at c");
  fails(Uint8Array.of(1, 2), Uint8Array.of(1, 3), "first difference at 1");
  fails([], [0], "first difference at 0");
  fails(undefined, { a: 1 }, "got undefined");
});

test("a refusal has the right class, code and words", () => {
  const refusal = () => {
    throw new KvmError("KVM_INVALID", "no such slot");
  };
  refused(refusal, "KVM_INVALID", "no such");
  assert.throws(() => refused(refusal, "KVM_CLOSED", "no such"), /the code of "no such slot"/);
  assert.throws(() => refused(refusal, "KVM_INVALID", "another"), /"another" is not in the message/);
  assert.throws(() => refused(() => 5, "KVM_INVALID", ""), /expected a refusal \(KVM_INVALID\), got 0x5/);
  assert.throws(() => refused(() => JSON.parse(""), "KVM_INVALID", ""), /something else than a KvmError: SyntaxError/);
});

test("the suite: names are unique, groups are not empty", () => {
  const names = suite.flatMap((group) => group.cases.map((one) => `${group.name}: ${one.name}`));
  assert.equal(new Set(names).size, names.length);
  assert.ok(suite.every((group) => group.cases.length > 0));
  assert.ok(allGuests().length > 100);
});

const host = find();
const skip = typeof host === "string" ? host : false;

function find(): Host | string {
  try {
    return openKvmHost();
  } catch (error) {
    if (error instanceof KvmError) return error.message;
    throw error;
  }
}

const session = typeof host === "string" ? undefined : new Session(host);
after(async () => {
  await session?.[Symbol.asyncDispose]();
});

/** A case around a guest that never stops. */
const endless = (run: Case["run"]): Case => ({ name: "endless", guest: long`jmp .`, run });
/** Long enough for what has to be reached before it. */
const SOON_MS = 2000;

test("a guest that does not stop fails its case", { skip }, async () => {
  const one = endless((t) => t.machine().expect(ExitReason.HLT));
  await assert.rejects(runCase(one, session!, SOON_MS), /the guest did not stop by itself: rip is 0x1000/);
});

test("a guest on a thread that does not stop fails its case, and the thread is free again", { skip }, async () => {
  const one = endless(async (t) => {
    await (await t.thread(t.machine({ vcpus: 0 }), { id: 0 })).run();
  });
  await assert.rejects(runCase(one, session!, SOON_MS), /waited for something that did not come within 2000 ms/);
  const next: Case = { ...one, guest: long`hlt` };
  assert.equal(await runCase(next, session!), undefined);
});

test("an unexpected exit fails, and tells both", { skip }, async () => {
  const one: Case = { name: "x", guest: long`out 0x10, al`, run: (t) => t.machine().expect(ExitReason.HLT) };
  await assert.rejects(
    runCase(one, session!),
    /expected KVM_EXIT_HLT, got KVM_EXIT_IO \(out 0x0, port 0x10, 1 bytes each\) at rip 0x100/,
  );
});

test("machines are closed whether a case passes, fails or is skipped", { skip }, async () => {
  const endings: Case["run"][] = [
    () => {},
    () => {
      throw new CheckFailed("on purpose");
    },
    (t) => t.skip("on purpose"),
  ];
  for (const ending of endings) {
    let vm: Vm | undefined;
    const one = endless((t) => {
      vm = t.machine().vm;
      return ending(t);
    });
    await runCase(one, session!).catch((error: Error) => assert.match(error.message, /on purpose/));
    assert.throws(() => vm!.checkExtension(0), { code: "KVM_CLOSED" });
  }
});

test("a shortcoming excuses hosts of its kind only, and only when it is found", { skip }, async () => {
  const one = (found: boolean, kind: "interprets" | "tcg") => endless((t) => t.excuse(found, kind, "is like that"));
  const run = (interprets: boolean, tcg: boolean, which: Case) => {
    const pretended = new Session({ ...(host as Host), interprets, tcg });
    return runCase(which, pretended).finally(() => pretended[Symbol.asyncDispose]());
  };
  assert.equal(await run(false, false, one(true, "interprets")), undefined);
  assert.equal(await run(false, true, one(true, "interprets")), undefined);
  assert.equal(await run(true, false, one(false, "interprets")), undefined);
  assert.match((await run(true, false, one(true, "interprets"))) ?? "", /interprets ring 0 and is like that$/);
  assert.match((await run(false, true, one(true, "tcg"))) ?? "", /QEMU's TCG, which is like that$/);
});

test("a guest that ran astray is a failure, on hosts that interpret too", { skip }, async () => {
  // Bytes that no processor knows, outside of the guest's code.
  const one: Case = {
    name: "astray",
    guest: long`
      mov rax, 0x50000
      jmp rax`,
    run(t) {
      const m = t.machine();
      m.bytes.fill(0x06, 0x50000, 0x50010);
      m.expect(ExitReason.HLT);
    },
  };
  await assert.rejects(runCase(one, session!), CheckFailed);
});
