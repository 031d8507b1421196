/** Runs the conformance suite on the software hypervisor. */

import { assemble, runSuite, startWorker } from "@lodge/kvm/conformance";
import { openSoft } from "../src/index.ts";

runSuite("soft", () => ({
  name: "soft",
  hypervisor: openSoft(),
  interprets: false,
  tcg: false,
  thorough: process.env.LODGE_LONG === "1",
  assemble,
  startThread: () => startWorker(new URL("./soft-thread.ts", import.meta.url)),
}));
