/** `lodge image convert`. */

import { createImage, openImage, StorageError } from "@lodge/storage/copying";
import { Command, Option } from "commander";
import { Progress } from "../progress.ts";
import { copyInto } from "./copy-into.ts";
import { backingOf, collect, parseImageOptions, parseSnapshotKey } from "./options.ts";
import { parseSize, wholeNumber } from "./size.ts";

interface Flags {
  format?: string;
  outputFormat: string;
  options?: string[];
  compress?: true;
  progress?: true;
  quiet?: true;
  snapshot?: string;
  backing?: string;
  backingFormat?: string;
  sparseSize?: number;
  targetIsZero?: true;
  targetCache: "unsafe" | "writeback";
  /** False with --no-create. */
  create: boolean;
  forceShare?: true;
  coroutines?: number;
}

export function convertCommand(): Command {
  return new Command("convert")
    .argument("<source>", "the image to be copied, with all that is below it")
    .argument("<target>", "the new image")
    .description("copy a disk into an image of another format, or of the same")
    .option("-f, --format <format>", "the source's format; its content decides unless it is given")
    .option("-O, --output-format <format>", "raw or qcow2", "raw")
    .option("-o, --options <list>", "name=value,… of the new image", collect)
    .option("-c, --compress", "compress the new image's clusters (qcow2)")
    .option(
      "-l, --snapshot <snapshot>",
      "an internal snapshot of the source: ID, name or snapshot.id=…,snapshot.name=…",
    )
    .option("-B, --backing <file>", "what the new image stands on: only what the source holds itself is copied")
    .option("-F, --backing-format <format>", "the backing file's format")
    .option("-S, --sparse-size <size>", "how many zeros are not written; 0: all are (default: 4k)", parseSize)
    .option("-n, --no-create", "write into a target that is there already")
    .option("--target-is-zero", "with -n: the target reads as zeros")
    .option("-q, --quiet", "say nothing")
    .option("-p, --progress", "show how far it is")
    .addOption(
      new Option(
        "-t, --target-cache <mode>",
        "writeback waits until the copy is on the disk; unsafe, as for qemu-img, does not",
      )
        .choices(["unsafe", "writeback"])
        .default("unsafe"),
    )
    .option("-m, --coroutines <n>", "transfers at once: 1 to 16 (default: 4)", wholeNumber(1, 16))
    .option("-W, --out-of-order", "the target may be written in any order, as it always is")
    .option("-U, --force-share", "also while somebody writes the source")
    .allowExcessArguments(false)
    .action(async (from: string, to: string, flags: Flags) => {
      const { format, outputFormat, compress = false } = flags;
      const flushes = flags.targetCache === "writeback";
      const source = await openImage(from, {
        readOnly: true,
        lock: !flags.forceShare,
        ...(format !== undefined && { format }),
        ...(flags.snapshot !== undefined && { snapshot: parseSnapshotKey(flags.snapshot) }),
      });
      using progress = new Progress();
      let isZero = false;
      try {
        const { backingName, backingFormat, ...options } = parseImageOptions(flags.options ?? []);
        if (flags.targetIsZero && flags.create) {
          throw new StorageError("STORAGE_OPEN", "--target-is-zero is said of a target that is there already, with -n");
        }
        const backing = backingOf("-B", flags.backing ?? backingName, flags.backingFormat ?? backingFormat);
        if (flags.create) {
          const sizeBytes = options.sizeBytes ?? source.sizeBytes;
          const wanted = { ...options, format: outputFormat, sizeBytes, flushes };
          isZero = await createImage(to, { ...wanted, ...(backing && { backing }) });
        }
        await copyInto({ path: to, format: outputFormat, flushes, made: flags.create }, source, {
          compressed: compress,
          overZeros: backing !== undefined || !(isZero || flags.targetIsZero),
          ...(flags.coroutines !== undefined && { parallel: flags.coroutines }),
          // With a backing file, what is zero in the target would hide what is below.
          mayZeroFirst: backing === undefined,
          ...(backing !== undefined && { images: 1 }),
          ...(flags.sparseSize !== undefined && { sparseBytes: flags.sparseSize }),
          progress: flags.progress
            ? percent()
            : flags.quiet
              ? () => {}
              : (done, total) => progress.step(`copying: ${Math.floor((done / total) * 100)} %`),
        });
      } finally {
        await source.close();
      }
    });
}

/** As qemu-img's -p: one line that changes. */
export function percent(): (done: number, total: number) => void {
  let shown = -1;
  return (done, total) => {
    const now = Math.floor((done / Math.max(1, total)) * 10000);
    if (now === shown) return;
    shown = now;
    process.stdout.write(`    (${(now / 100).toFixed(2)}/100%)${now === 10000 ? "\n" : "\r"}`);
  };
}
