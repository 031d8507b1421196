/**
 * The conformance suite in a browser: a worker that runs all cases on the software processor and tells the server of each.
 * It is no page's own thread, since that may not wait.
 */

import {
  type AssembledGuest,
  assemblyOf,
  runCase,
  Session,
  suite,
  type ThreadHandle,
} from "@lodge/kvm/conformance/cases";
import { openSoft } from "../src/index.ts";
import { web } from "./web.ts";

/** Assembled guests by their assembly; the code as numbers. */
export type Guests = Record<string, { code: number[]; labels: Record<string, number> }>;

/** What became of a case. */
export interface Result {
  readonly name: string;
  readonly skipped?: string | undefined;
  readonly failed?: string | undefined;
}

function startThread(): ThreadHandle {
  const worker = new web.Worker(new URL("./suite-thread.ts", import.meta.url), { type: "module" });
  return {
    post: (message) => worker.postMessage(message),
    listen: (receive) => worker.addEventListener("message", ({ data }) => receive(data)),
    onFailure: (report) => worker.addEventListener("error", ({ message }) => report(new Error(message))),
    end: async () => worker.terminate(),
  };
}

const tell = async (path: string, body: unknown) => {
  await fetch(path, { method: "POST", body: JSON.stringify(body) });
};

async function runAll(): Promise<void> {
  if (!web.crossOriginIsolated) throw new Error("the page is not cross-origin isolated");
  const guests = (await (await fetch("/guests.json")).json()) as Guests;
  await using session = new Session({
    name: "soft",
    hypervisor: openSoft(),
    ...{ interprets: false, tcg: false, thorough: false },
    assemble: (guest): AssembledGuest => {
      const { code, labels } = guests[assemblyOf(guest)]!;
      return { code: Uint8Array.from(code), labels };
    },
    startThread,
  });
  for (const group of suite) {
    for (const one of group.cases) {
      const name = `${group.name}: ${one.name}`;
      const result: Result = await runCase(one, session).then(
        (skipped) => ({ name, skipped }),
        (error: Error) => ({ name, failed: `${error.message}\n${error.stack}` }),
      );
      await tell("/result", result);
    }
  }
}

runAll().then(
  () => tell("/done", ""),
  (error: Error) => tell("/done", `${error.message}\n${error.stack}`),
);
