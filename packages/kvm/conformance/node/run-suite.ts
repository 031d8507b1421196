/** The suite as tests of node:test: one test for each case on one implementation. */

import { after, test } from "node:test";
import { KvmError } from "../../src/index.ts";
import type { Host } from "../case.ts";
import { Session } from "../session.ts";
import { runCase, suite } from "../suite.ts";

/** `open` throws a `KvmError` where the implementation is absent or not permitted; that is one skipped test. */
export function runSuite(name: string, open: () => Host): void {
  let host: Host;
  try {
    host = open();
  } catch (error) {
    if (!(error instanceof KvmError)) throw error;
    test(name, { skip: error.message }, () => {});
    return;
  }
  const session = new Session(host);
  after(async () => {
    await session[Symbol.asyncDispose]();
    host.hypervisor[Symbol.dispose]();
  });
  for (const group of suite) {
    for (const one of group.cases) {
      test(`${name}: ${group.name}: ${one.name}`, async (t) => {
        const reason = await runCase(one, session);
        if (reason !== undefined) t.skip(reason);
      });
    }
  }
}
