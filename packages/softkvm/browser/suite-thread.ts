/** A thread of the conformance suite, in a browser. */

import { serve } from "@lodge/kvm/conformance/cases";
import { openSoft } from "../src/index.ts";
import { web } from "./web.ts";

serve(openSoft(), {
  post: (message) => web.postMessage(message),
  listen: (receive) => web.addEventListener("message", ({ data }) => receive(data)),
});
