/** Guests that cause one fault, and what their handler found. */

import { ExitReason } from "../../src/index.ts";
import type { Guest } from "../guest.ts";
import type { Machine } from "../machine.ts";

/** A guest whose handler leaves the error code in rax, the faulting rip in rbx, its cs in rcx and CR2 in rdx. */
export const withErrorCode = (start: (strings: TemplateStringsArray) => Guest, body: string): Guest => ({
  ...start``,
  source: `${body}
      handler:
        pop rax
        pop rbx
        pop rcx
        mov rdx, cr2
        hlt`,
});

/** What {@link withErrorCode}'s handler found. */
export function caught(m: Machine) {
  m.expect(ExitReason.HLT);
  const { rax: error, rbx: rip, rcx: cs, rdx: address } = m.vcpu.getRegs();
  return { error, rip: rip === BigInt(m.at("culprit")) ? "culprit" : rip, cs, address };
}
