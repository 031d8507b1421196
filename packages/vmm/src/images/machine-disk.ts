/**
 * The disk of a machine whose image has one. A machine with a name keeps it, below ${XDG_DATA_HOME:-~/.local/share}/lodge/machines,
 * and goes on with it when it is started again; others have one for as long as they live, which holds only what they write.
 */

import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rename, rm, rmdir } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { dirname, isAbsolute, join } from "node:path";

/** Disposed of before the machine has begun, it takes along what was made for it. */
export interface MachineDisk extends AsyncDisposable {
  readonly file: string;
  /** The machine has begun: what stays of its disk afterwards is as it was asked for. */
  begun(): void;
}

/** Where the machines that have a name keep what is theirs. */
export function machinesFolder(): string {
  const base = process.env.XDG_DATA_HOME ?? "";
  // The XDG specification wants relative paths ignored.
  return join(isAbsolute(base) ? base : join(homedir(), ".local", "share"), "lodge", "machines");
}

/** The file that a machine's disk is, once it was started. */
export function machineDiskFile(name: string): string {
  return join(machinesFolder(), name, "disk.qcow2");
}

/** `passing`: nothing stays of it, although the machine has a name. */
export async function machineDisk(
  base: string,
  name: string | undefined,
  passing: boolean,
  signal?: AbortSignal,
): Promise<MachineDisk> {
  if (name === undefined) {
    const folder = await mkdtemp(join(tmpdir(), "lodge-disk-"));
    const file = join(folder, "disk.qcow2");
    const remove = () => rm(folder, { recursive: true, force: true });
    try {
      const { createImage } = await import("@lodge/storage");
      await createImage(file, { format: "qcow2", backing: { name: base, format: "raw" } });
    } catch (error) {
      await remove();
      throw error;
    }
    return { file, begun: () => {}, [Symbol.asyncDispose]: remove };
  }
  const file = machineDiskFile(name);
  const folder = dirname(file);
  let isForNothing = !existsSync(file);
  if (isForNothing) await copyDisk(base, folder, file, signal);
  return {
    file,
    begun: () => {
      isForNothing = false;
    },
    [Symbol.asyncDispose]: async () => {
      // Another machine of this name may have come to it meanwhile.
      if (passing || (isForNothing && !(await isUsed(file)))) await rm(folder, { recursive: true, force: true });
    },
  };
}

/** All of it, because the image may be built anew meanwhile; under another name until it is whole. */
async function copyDisk(base: string, folder: string, file: string, signal: AbortSignal | undefined): Promise<void> {
  await mkdir(folder, { recursive: true });
  const unfinished = join(folder, `unfinished.${process.pid}.qcow2`);
  try {
    const { copyImage, createImage } = await import("@lodge/storage");
    await using source = await opened(base, true);
    await createImage(unfinished, { format: "qcow2", sizeBytes: source.image.sizeBytes });
    {
      await using target = await opened(unfinished, false);
      await copyImage(source.image, target.image, signal === undefined ? {} : { signal });
      await target.image.flush();
    }
    await rename(unfinished, file);
  } catch (error) {
    await rm(unfinished, { force: true });
    // Only if nothing else is there.
    await rmdir(folder).catch(() => {});
    throw error;
  }
}

async function isUsed(file: string): Promise<boolean> {
  return existsSync(file) && (await (await import("@lodge/storage")).isImageInUse(file));
}

async function opened(path: string, readOnly: boolean) {
  const { openImage } = await import("@lodge/storage");
  const image = await openImage(path, { readOnly, format: readOnly ? "raw" : "qcow2" });
  return { image, [Symbol.asyncDispose]: () => image.close() };
}
