/** External snapshots: a running disk goes on in a new image that stands on the one it had, which stays as it is then. */

import { resolve } from "node:path";
import type { Drive } from "../drive/drive.ts";
import { isNbdUri } from "../nbd/client/address.ts";
import { openImage } from "../open.ts";
import { createImage, removeMade } from "../operations/create.ts";
import { refuseOccupied } from "./occupy.ts";

export interface ExternalSnapshotOptions {
  /** The image is there already, and names the disk's image as its backing file. */
  readonly existing?: boolean;
}

/**
 * Has the drive go on in the qcow2 image at `path`, which is made. Merging it again is `startCommit`, and taking it out of the
 * chain `startStream`. The guest's requests wait meanwhile. If it fails, the drive goes on as before. Returns what takes it
 * back, for whoever holds the drive still.
 */
export async function takeSnapshot(
  drive: Drive,
  path: string,
  { existing = false }: ExternalSnapshotOptions = {},
): Promise<() => Promise<void>> {
  refuseOccupied(drive, "snapshot");
  const { name, format, sizeBytes, readOnly } = drive.image;
  const backing = { name: isNbdUri(name) ? name : resolve(name), format };
  if (!existing) await createImage(path, { format: "qcow2", sizeBytes, backing });
  const goBack = async () => {
    drive.replaceImage(await openImage(name, { ...drive.opening, format, readOnly }));
    if (!existing) await removeMade(path);
  };
  await drive.drained(async () => {
    refuseOccupied(drive, "snapshot");
    // Two handles would lock each other out: the one image is closed, and read by the other from now on.
    await drive.image.close();
    try {
      drive.replaceImage(await openImage(path, { ...drive.opening, format: "qcow2", readOnly }));
    } catch (cause) {
      await goBack();
      throw cause;
    }
  });
  return async () => {
    await drive.image.close();
    await goBack();
  };
}
