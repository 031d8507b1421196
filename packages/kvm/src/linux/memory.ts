/**
 * Guest memory for the kernel's KVM: one shared buffer, in which the guest's memory is followed by the record of its machine
 * (shared-record.ts) and the places of the vCPUs' run pages. Every object of V8's that a machine needs costs tens of
 * microseconds, and so every thread that has the memory sees the run pages.
 */

import { addressOf } from "@lodge/linux";
import { KvmError } from "../errors.ts";
import { checkMemorySize, type GuestMemory } from "../memory.ts";
import { type RecordPlace, recordBytes, SharedVmRecord } from "./shared-record.ts";

export interface LinuxMemory extends GuestMemory {
  readonly kind: "kvm";
  /** Its `buffer` and `address` are the guest's memory's too. */
  readonly record: RecordPlace;
}

export function createLinuxMemory(sizeBytes: number, runPageBytes: number): LinuxMemory {
  checkMemorySize(sizeBytes);
  const buffer = reserve(sizeBytes + recordBytes(runPageBytes));
  const address = addressOf(buffer);
  return { kind: "kvm", buffer, sizeBytes, record: { buffer, address, byteOffset: sizeBytes, runPageBytes } };
}

/** The record for a new machine with this memory: the memory's own, or a separate one when another machine has that. */
export function newRecord({ record }: LinuxMemory): SharedVmRecord {
  const own = new SharedVmRecord(record);
  if (own.take()) return own;
  const { runPageBytes } = record;
  const buffer = reserve(recordBytes(runPageBytes));
  const other = new SharedVmRecord({ buffer, address: addressOf(buffer), byteOffset: 0, runPageBytes });
  other.take();
  return other;
}

/** Memory of zeros at whole pages, which takes none before it is touched. */
function reserve(bytes: number): SharedArrayBuffer {
  try {
    // A buffer that could grow begins at a page, unlike one that cannot.
    return new SharedArrayBuffer(bytes, { maxByteLength: bytes });
  } catch (cause) {
    throw new KvmError("KVM_INVALID", `no room for ${bytes} bytes of guest memory among this process's addresses`, {
      cause,
    });
  }
}
