/** A reporter for tools/test.ts: one line of JSON with what a test file came to, when it has come to its end. */

import type { TestEvent } from "node:test/reporters";

/** What came of the tests of a file. */
export interface Counts {
  passed: number;
  failed: number;
  /** The reason of each skipped test; what is still to do counts as skipped, as it never fails. */
  skipped: string[];
}

export default async function* counts(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const found: Counts = { passed: 0, failed: 0, skipped: [] };
  for await (const { type, data } of events) {
    if (type !== "test:pass" && type !== "test:fail") continue;
    const reason = reasonOf(data.skip) ?? reasonOf(data.todo, "to do");
    if (reason !== undefined) found.skipped.push(reason);
    else if (type === "test:fail") found.failed += 1;
    else if (data.details.type !== "suite") found.passed += 1;
  }
  yield JSON.stringify(found);
}

function reasonOf(mark: string | boolean | undefined, without = "no reason given"): string | undefined {
  if (mark === undefined || mark === false) return undefined;
  return typeof mark === "string" && mark !== "" ? mark : without;
}
