/**
 * Booting a guest inside the lab. Once in about ten times it stops in its first second: it spins for a lock of its own processor
 * that it holds already, or its first interrupts overflow its entry stack and it panics without a console, as if an interrupt had
 * come while it had switched them off. QEMU 7.2's emulation of SVM is the suspect (docs/lab.md), so a guest gets three attempts.
 * Only what does not end is tried again; whatever ends has its say.
 */

/** Seconds, of which an attempt on an idle machine takes 60. Three fit into the ten minutes that a test file has. */
const ATTEMPT_S = 160;

/** A shell function: `boot ARGUMENT...` is `lodge run --accel kvm ARGUMENT...`. Its status is 124 when no attempt has ended. */
export const bootFunction = `
  boot() {
    for attempt in 1 2 3; do
      timeout ${ATTEMPT_S} "$NODE" packages/cli/bin/lodge.js run --accel kvm "$@" && return
      status=$?
      [ $status -eq 124 ] || return $status
      echo "attempt $attempt: the guest has not come to its end in ${ATTEMPT_S} s" >&2
    done
    return 124
  }`;
