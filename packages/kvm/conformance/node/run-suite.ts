/** The suite as tests of node:test: one test for each case on one implementation. */

import { after, test } from "node:test";
import { KvmError } from "../../src/index.ts";
import type { Host } from "../case.ts";
import { Session } from "../session.ts";
import { runCase, suite } from "../suite.ts";

/** Seconds after which no further case is begun, for hosts that may be too slow for all of them. */
const BUDGET_S = Number(process.env.LODGE_CONFORMANCE_S ?? Number.POSITIVE_INFINITY);

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
  const lastBegin = performance.now() + BUDGET_S * 1000;
  after(async () => {
    await session[Symbol.asyncDispose]();
    host.hypervisor[Symbol.dispose]();
  });
  for (const group of suite) {
    for (const one of group.cases) {
      test(`${name}: ${group.name}: ${one.name}`, async (t) => {
        if (performance.now() > lastBegin) return t.skip(`not begun within ${BUDGET_S} s`);
        const reason = await runCase(one, session);
        if (reason !== undefined) t.skip(reason);
      });
    }
  }
}
