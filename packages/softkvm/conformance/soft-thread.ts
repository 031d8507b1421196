/** A thread of the conformance suite on the software hypervisor. */

import { parentPort } from "node:worker_threads";
import { serve } from "@lodge/kvm/conformance";
import { openSoft } from "../src/index.ts";

const port = parentPort!;
serve(openSoft(), {
  post: (message) => port.postMessage(message),
  listen: (receive) => {
    port.on("message", receive);
  },
});
