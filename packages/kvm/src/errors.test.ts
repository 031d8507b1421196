/** Exits as errors, from pages that no processor wrote. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { exitError, InternalError, KvmError, type KvmErrorCode } from "./errors.ts";
import { ExitReason } from "./exit-reason.ts";
import { Run, RunExit } from "./layout/run.ts";
import { RunPage } from "./run-page.ts";

function page(exitReason: number): RunPage {
  const run = new RunPage(new ArrayBuffer(4096));
  run.view.setUint32(Run.offset.exitReason, exitReason, true);
  return run;
}

function internal(suberror: number, ...values: bigint[]): RunPage {
  const run = page(ExitReason.INTERNAL_ERROR);
  const data = new Uint8Array(128);
  new BigUint64Array(data.buffer).set(values);
  RunExit.internal.write(run.view, Run.offset.exit, { suberror, ndata: values.length, data });
  return run;
}

/** The error of an exit has this code, and a message of one line that says all of this. */
function says(run: RunPage, code: KvmErrorCode, ...parts: RegExp[]): void {
  const error = exitError(run);
  assert.ok(error instanceof KvmError);
  assert.equal(error.code, code);
  for (const part of parts) assert.match(error.message, part);
  assert.ok(!error.message.includes("\n"));
}

test("an instruction that KVM cannot emulate is shown, with what to do", () => {
  const run = page(ExitReason.INTERNAL_ERROR);
  const insnBytes = Uint8Array.of(0x0f, 0xc7, 0x0e, ...new Uint8Array(12));
  const failure = { suberror: InternalError.EMULATION, ndata: 4, flags: 1n, insnSize: 3, insnBytes };
  RunExit.emulationFailure.write(run.view, Run.offset.exit, failure);
  says(run, "KVM_INTERNAL_ERROR", /emulate the instruction 0f c7 0e,/, /software processor/);
});

test("without the instruction's bytes an emulation failure says what usually causes it", () => {
  says(
    internal(InternalError.EMULATION),
    "KVM_INTERNAL_ERROR",
    /jumped into memory that is no code/,
    /software processor/,
  );
});

test("errors of event delivery name the guest's tables, with KVM's data", () => {
  says(internal(InternalError.SIMUL_EX, 14n), "KVM_INTERNAL_ERROR", /exception .* another .*data 0xe/, /IDT or stack/);
  says(internal(InternalError.DELIVERY_EV, 0x80000b0en, 0x31n), "KVM_INTERNAL_ERROR", /0x80000b0e 0x31/, /IDT, TSS/);
});

test("unknown reasons and suberrors keep their numbers", () => {
  says(internal(InternalError.UNEXPECTED_EXIT_REASON, 77n), "KVM_INTERNAL_ERROR", /0x4d/, /newer kernel/);
  says(internal(99, 1n, 2n), "KVM_INTERNAL_ERROR", /suberror 99 \(data 0x1 0x2\)/, /dmesg/);
});

test("a refused entry says what to check", () => {
  const run = page(ExitReason.FAIL_ENTRY);
  RunExit.failEntry.write(run.view, Run.offset.exit, { hardwareEntryFailureReason: 0x8000_0021n, cpu: 3 });
  says(run, "KVM_FAIL_ENTRY", /0x80000021/, /host CPU 3/, /setSregs and setMsrs/);
});

test("any other exit is named as one that nothing handles", () => {
  says(page(ExitReason.SHUTDOWN), "KVM_UNEXPECTED_EXIT", /KVM_EXIT_SHUTDOWN/, /nothing handles/);
  says(page(4711), "KVM_UNEXPECTED_EXIT", /KVM_EXIT_4711/);
});
