/** A thread of the suite on /dev/kvm. */

import { parentPort } from "node:worker_threads";
import { openKvm } from "../../src/linux/index.ts";
import { serve } from "../thread.ts";

const port = parentPort!;
serve(openKvm(), {
  post: (message) => port.postMessage(message),
  listen: (receive) => {
    port.on("message", receive);
  },
});
