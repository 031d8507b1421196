/** Disks for block jobs: a chain of images with random content, and what it is to a guest. */

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createImage, type Drive, openImage } from "../src/index.ts";
import type { BlockJob } from "../src/jobs/index.ts";
import { qemuCheck, qemuImg } from "./qemu.ts";
import type { Random } from "./random.ts";

const MIB = 1 << 20;

/** Fills a part of the model, at 4 KiB steps, and says which. */
function randomPart(model: Buffer, random: Random): { offset: number; length: number } {
  const length = 4096 * (1 + random.below(64));
  const offset = 4096 * random.below((model.length - length) / 4096);
  for (let at = offset; at < offset + length; at += 512) model.fill(1 + random.below(255), at, at + 512);
  return { offset, length };
}

/** A raw image, and qcow2 images on it, the last of which is the disk; all but the raw one with parts and zeros of their own. */
export async function makeChain(
  dir: string,
  names: readonly string[],
  random: Random,
): Promise<{ paths: string[]; model: Buffer<ArrayBuffer> }> {
  const sizeBytes = 8 * MIB + 1536 - 512;
  const model = Buffer.alloc(sizeBytes);
  const [base, ...others] = names.map((name) => join(dir, name));
  for (let count = 0; count < 12; count++) randomPart(model, random);
  // The first is shorter than the disk.
  const shorter = 6 * MIB;
  model.fill(0, shorter);
  writeFileSync(base!, model.subarray(0, shorter));
  let below = { name: names[0]!, format: "raw" };
  for (const [index, path] of others.entries()) {
    const clusterSize = random.pick([4096, 65536]);
    await createImage(path, { format: "qcow2", sizeBytes, backing: below, clusterSize });
    const image = await openImage(path, { format: "qcow2" });
    for (let count = 0; count < 8; count++) {
      const { offset, length } = randomPart(model, random);
      await image.write(offset, [model.subarray(offset, offset + length)]);
    }
    const zeros = 65536 * random.below(100);
    await image.writeZeroes(zeros, 65536, true);
    model.fill(0, zeros, zeros + 65536);
    await image.close();
    below = { name: names[index + 1]!, format: "qcow2" };
  }
  return { paths: [base!, ...others], model };
}

/** QEMU sees in an image what the guest would, and finds nothing wrong; with `leaks`, but for lost clusters. */
export function expectContent(dir: string, image: string, format: string, model: Buffer, leaks = false): void {
  const flat = join(dir, "model.raw");
  writeFileSync(flat, model);
  if (format === "qcow2") qemuCheck(image, leaks);
  qemuImg("compare", "-f", format, "-F", "raw", image, flat);
}

/** The files of a chain as QEMU finds them, from the top. */
export function chainNames(path: string): string[] {
  return JSON.parse(qemuImg("info", "--backing-chain", "--output=json", path)).map(
    ({ filename }: { filename: string }) => filename,
  );
}

/** Resolves when a job is ready; rejects when it ends before. */
export function readyOf(job: BlockJob): Promise<void> {
  return new Promise((resolve, reject) => {
    if (job.state === "ready") return resolve();
    job.watch((event) => {
      if (event.event === "ready") resolve();
      if (event.event === "concluded") reject(event.error ?? new Error(`the job has ${event.outcome}`));
    });
  });
}

/**
 * What the disk is when a job begins or ends, or another thing is done to a drive that stands still: the last such moment's.
 * It is asked itself: a guest that has discarded something does not know yet what is there.
 */
export function momentOf(drive: Drive): { content: Buffer } {
  const moment = { content: Buffer.alloc(0) };
  const drained = drive.drained.bind(drive);
  drive.drained = (work) =>
    drained(async () => {
      const content = Buffer.alloc(drive.sizeBytes);
      await drive.image.read(0, [content]);
      moment.content = content;
      return work();
    });
  return moment;
}
