/** What KVM or a host refuses, in words that say what to do. */

import { ExitReason, exitReasonName } from "./exit-reason.ts";
import type { RunPage } from "./run-page.ts";

/** The stable codes of {@link KvmError}. */
export type KvmErrorCode =
  /** This host has no KVM. */
  | "KVM_ABSENT"
  /** It has, and this user may not use it. */
  | "KVM_PERMISSION"
  /** Something else holds the processor's virtualization. */
  | "KVM_BUSY"
  /** The kernel speaks another version of the interface. */
  | "KVM_API_VERSION"
  /** The host lacks something that was asked for. */
  | "KVM_CAPABILITY_MISSING"
  /** An MSR that this host does not know, or a value that it does not take. */
  | "KVM_MSR_REFUSED"
  /** An argument that cannot be right, found before the kernel was asked. */
  | "KVM_INVALID"
  /** The kernel refused a request. */
  | "KVM_REQUEST_FAILED"
  /** The processor refused to enter the guest. */
  | "KVM_FAIL_ENTRY"
  /** KVM could not go on with the guest. */
  | "KVM_INTERNAL_ERROR"
  /** An exit that nothing handles. */
  | "KVM_UNEXPECTED_EXIT"
  /** Used after it was closed, or closed while in use. */
  | "KVM_CLOSED"
  | "KVM_IN_USE";

export class KvmError extends Error {
  override readonly name = "KvmError";
  readonly code: KvmErrorCode;

  constructor(code: KvmErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** KVM_INTERNAL_ERROR_* of linux/kvm.h. */
export const InternalError = {
  EMULATION: 1,
  SIMUL_EX: 2,
  DELIVERY_EV: 3,
  UNEXPECTED_EXIT_REASON: 4,
} as const;

/**
 * The error that an exit is when nothing handles it. `INTERNAL_ERROR` and `FAIL_ENTRY` are explained; for any other
 * reason it says that the exit was not expected.
 */
export function exitError(run: RunPage): KvmError {
  const reason = run.exitReason;
  switch (reason) {
    case ExitReason.INTERNAL_ERROR:
      return new KvmError("KVM_INTERNAL_ERROR", `KVM gave up on the guest: ${internalErrorText(run)}`);
    case ExitReason.FAIL_ENTRY:
      return new KvmError(
        "KVM_FAIL_ENTRY",
        `the processor refused the guest's state (hardware reason 0x${run.failEntry.reason.toString(16)}, host CPU ` +
          `${run.failEntry.cpu}): a control register, segment or MSR was set to something that no guest can have; ` +
          "check what was written with setSregs and setMsrs",
      );
    default:
      return new KvmError(
        "KVM_UNEXPECTED_EXIT",
        `the vCPU stopped with ${exitReasonName(reason)}, which nothing handles`,
      );
  }
}

function internalErrorText(run: RunPage): string {
  const { suberror, data, instruction } = run.internal;
  const values = data.length > 0 ? ` (data ${data.map((value) => `0x${value.toString(16)}`).join(" ")})` : "";
  switch (suberror) {
    case InternalError.EMULATION: {
      const bytes = Array.from(instruction, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
      return bytes === ""
        ? "it had to emulate an instruction, and does not know it. The guest jumped into memory that is no code, or uses " +
            "an instruction that this kernel cannot emulate; run this guest with the software processor instead"
        : `it had to emulate the instruction ${bytes}, and does not know it. Where /dev/kvm interprets guest kernels ` +
            "(see lodge info), run this guest with the software processor instead";
    }
    case InternalError.SIMUL_EX:
      return `an exception happened while another was delivered${values}; the guest's IDT or stack is damaged`;
    case InternalError.DELIVERY_EV:
      return `an exit happened while an event was delivered to the guest${values}; its IDT, TSS or stack lies in memory that no slot backs`;
    case InternalError.UNEXPECTED_EXIT_REASON:
      return `the processor stopped for a reason that this kernel does not know${values}; a newer kernel may`;
    default:
      return `suberror ${suberror}${values}; the host's kernel log (dmesg) may say more`;
  }
}
