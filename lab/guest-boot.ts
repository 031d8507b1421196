/**
 * Booting a guest inside the lab. Under QEMU's emulation of SVM most kernels that use KVM's end of interrupt by memory (PV EOI)
 * stop or panic in their first second, and once in about ten times also those that do not (docs/lab.md). So the kernel is told
 * to use nothing of KVM's (`nopv`), and gets three attempts. Only what does not end, or panics, is tried again.
 */

/** Seconds, of which an attempt on an idle machine takes 40. Three fit into the ten minutes that a test file has. */
const ATTEMPT_S = 160;

/**
 * Shell functions: `attempt PROGRAM ARGUMENT...` runs what boots a guest, and `boot ARGUMENT...` is `lodge run ARGUMENT...` there.
 * $BOOT_S are an attempt's seconds, if set. Status and output are those of the last attempt; 124 when that has not ended.
 */
export const bootFunction = `
  attempt() {
    for attempt in 1 2 3; do
      status=0
      timeout "\${BOOT_S:-${ATTEMPT_S}}" "$@" >/tmp/boot-output 2>/tmp/boot-errors || status=$?
      cat /tmp/boot-errors >&2
      [ $status -eq 124 ] || grep -q '[Kk]ernel panic' /tmp/boot-errors || break
      echo "attempt $attempt: the guest has not come to its end (status $status)" >&2
    done
    cat /tmp/boot-output
    return $status
  }
  boot() {
    attempt "$NODE" packages/cli/bin/lodge.js run --accel kvm --append nopv "$@"
  }`;
