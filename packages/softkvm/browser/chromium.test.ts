/** The conformance suite on the software processor in headless Chromium: it runs in browsers as it does on Node. */

import { test } from "node:test";
import { assemble } from "@lodge/kvm/conformance";
import { allGuests, assemblyOf } from "@lodge/kvm/conformance/cases";
import { Chromium, noChromium } from "./chromium.ts";
import type { Guests, Result } from "./suite-page.ts";
import { TreeServer } from "./tree-server.ts";

const PAGE = `<!doctype html>
<title>conformance</title>
<script type="module">
  const worker = new Worker("/packages/softkvm/browser/suite-page.ts", { type: "module" });
  worker.addEventListener("error", ({ message, filename, lineno }) => {
    const text = (message ?? "a module cannot be loaded") + " in " + filename + ":" + lineno;
    void fetch("/done", { method: "POST", body: JSON.stringify(text) });
  });
</script>`;

function guests(): Guests {
  return Object.fromEntries(
    allGuests().map((guest) => {
      const { code, labels } = assemble(guest);
      return [assemblyOf(guest), { code: [...code], labels: { ...labels } }];
    }),
  );
}

/** Resolves with what became of the cases once all are done; rejects when the suite itself fails. */
async function runInChromium(): Promise<Result[]> {
  const results: Result[] = [];
  const done = Promise.withResolvers<Result[]>();
  await using server = await TreeServer.start({
    get: { "/": () => PAGE, "/guests.json": () => JSON.stringify(guests()) },
    post: {
      "/result": (body) => results.push(JSON.parse(body)),
      "/done": (body) => {
        const failure = JSON.parse(body) as string;
        if (failure === "") done.resolve(results);
        else done.reject(new Error(`after ${results.length} cases: ${failure}`));
      },
    },
  });
  await using chromium = new Chromium(server.url);
  return await Promise.race([done.promise, chromium.ended]);
}

test("the conformance suite in Chromium", { skip: noChromium }, async (t) => {
  for (const { name, skipped, failed } of await runInChromium()) {
    await t.test(`soft in Chromium: ${name}`, (one) => {
      if (skipped !== undefined) one.skip(skipped);
      if (failed !== undefined) throw new Error(failed);
    });
  }
});
