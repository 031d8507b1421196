/** Files that are persistent memory of a machine. */

import { DEVICE_MEMORY_GRAIN, PmemDevice } from "@lodge/devices";
import { HostFile, StorageError } from "@lodge/storage";
import type { PmemOptions } from "./configuration/pmem.ts";
import { formatSize } from "./configuration/size.ts";
import { VmmError } from "./errors.ts";

/** Opens the file, and locks it as an image is: the device, and what is to be closed behind it. */
export async function openPmem({ file, share = true }: PmemOptions): Promise<{ device: PmemDevice; file: HostFile }> {
  const opened = await HostFile.open(file, { readOnly: !share });
  try {
    const { sizeBytes, fd } = opened;
    if (opened.isDevice)
      throw new StorageError("STORAGE_OPEN", `${file} is a block device: persistent memory is a file`);
    if (sizeBytes === 0 || sizeBytes % DEVICE_MEMORY_GRAIN !== 0) {
      const next = Math.max(1, Math.ceil(sizeBytes / DEVICE_MEMORY_GRAIN)) * (DEVICE_MEMORY_GRAIN / 2 ** 20);
      throw new VmmError(
        "VMM_CONFIG",
        `${file} has ${sizeBytes} bytes: persistent memory is a multiple of ${formatSize(DEVICE_MEMORY_GRAIN)} (truncate -s ${next}M)`,
      );
    }
    const flush = share ? () => opened.flush() : async () => {};
    const device = new PmemDevice({ memory: { name: file, fd: fd!, sizeBytes, shared: share }, flush });
    return { device, file: opened };
  } catch (error) {
    await opened.close();
    throw error;
  }
}
