/** `lodge image convert`. */

import type { BitmapCopy, Image } from "@lodge/storage";
import { type CacheMode, createImage, StorageError } from "@lodge/storage/copying";
import { Command } from "commander";
import { Progress } from "../progress.ts";
import { copyInto } from "./copy-into.ts";
import {
  backingOf,
  cacheOption,
  collect,
  type NamingFlags,
  named,
  openNamed,
  parseImageOptions,
  RATE_LIMIT_HELP,
} from "./options.ts";
import { parseSize, wholeNumber } from "./size.ts";

interface Flags extends NamingFlags {
  outputFormat: string;
  targetImageOpts?: true;
  options?: string[];
  compress?: true;
  progress?: true;
  quiet?: true;
  snapshot?: string;
  salvage?: true;
  rateLimit?: number;
  bitmaps?: true;
  skipBrokenBitmaps?: true;
  backing?: string;
  backingFormat?: string;
  sparseSize?: number;
  targetIsZero?: true;
  targetCache: CacheMode;
  sourceCache: CacheMode;
  copyOffloading?: true;
  /** False with --no-create. */
  create: boolean;
  forceShare?: true;
  coroutines?: number;
}

export function convertCommand(): Command {
  return new Command("convert")
    .argument(
      "<images...>",
      "the image to be copied, with all that is below it, or several to be joined; then the new one",
    )
    .usage("[options] <source...> <target>")
    .description("copy a disk into an image of another format, or of the same")
    .option("-f, --format <format>", "the source's format; its content decides unless it is given")
    .option("-O, --output-format <format>", "raw or qcow2", "raw")
    .option("--target-image-opts", "with -n: the target is named by QEMU's options, as with --image-opts")
    .option("-o, --options <list>", "name=value,… of the new image", collect)
    .option("-c, --compress", "compress the new image's clusters (qcow2)")
    .option(
      "-l, --snapshot <snapshot>",
      "an internal snapshot of the source: ID, name or snapshot.id=…,snapshot.name=…",
    )
    .option("--salvage", "what cannot be read of the source is zeros, and stderr says where")
    .option("--bitmaps", "the bitmaps that the source keeps come along (qcow2)")
    .option("--skip-broken-bitmaps", "with --bitmaps: but not those that are worth nothing")
    .option("-B, --backing <file>", "what the new image stands on: only what the source holds itself is copied")
    .option("-F, --backing-format <format>", "the backing file's format")
    .option("-S, --sparse-size <size>", "how many zeros are not written; 0: all are (default: 4k)", parseSize)
    .option("-n, --no-create", "write into a target that is there already")
    .option("--target-is-zero", "with -n: the target reads as zeros")
    .option("-q, --quiet", "say nothing")
    .option("-p, --progress", "show how far it is")
    .addOption(cacheOption("-t, --target-cache <mode>", "the new image").default("unsafe"))
    .addOption(cacheOption("-T, --source-cache <mode>", "the source").default("writeback"))
    .option("-C, --copy-offloading", "let the kernel copy, with the zeros in what is copied, where it can")
    .option("-m, --coroutines <n>", "transfers at once: 1 to 16 (default: 4)", wholeNumber(1, 16))
    .option("-r, --rate-limit <bytes>", RATE_LIMIT_HELP, parseSize)
    .option("-W, --out-of-order", "the target may be written in any order, as it always is")
    .option("-U, --force-share", "also while somebody writes the source")
    .action(async (paths: string[], flags: Flags) => {
      const to = paths.pop()!;
      if (paths.length === 0) throw new StorageError("STORAGE_OPEN", `${to}: convert needs a source and a target`);
      const { compress = false } = flags;
      const target = await targetOf(to, flags);
      const { format: outputFormat } = target.options;
      const { targetCache: cache, copyOffloading: offload = false } = flags;
      if (offload && (compress || flags.sparseSize !== undefined)) {
        const other = compress ? "-c" : "-S";
        throw new StorageError("STORAGE_OPEN", `-C and ${other}: what the kernel copies nobody looks at or compresses`);
      }
      if (compress && outputFormat !== "qcow2") {
        throw new StorageError(
          "STORAGE_OPEN",
          `-c: ${to} is to be ${outputFormat}, and only qcow2 has compressed clusters`,
        );
      }
      if (paths.length > 1) refuseJoined(flags);
      await using opened = new Sources();
      using progress = new Progress();
      let isZero = false;
      const source = await opened.open(paths, flags);
      const { backingName, backingFormat, ...options } = parseImageOptions(flags.options ?? []);
      if (flags.targetIsZero && flags.create) {
        throw new StorageError("STORAGE_OPEN", "--target-is-zero is said of a target that is there already, with -n");
      }
      const bitmaps = await bitmapsOf(opened.first, outputFormat, flags);
      const backing = backingOf("-B", flags.backing ?? backingName, flags.backingFormat ?? backingFormat);
      if (flags.create) {
        const sizeBytes = options.sizeBytes ?? source.sizeBytes;
        const wanted = { ...options, format: outputFormat, sizeBytes, flushes: cache !== "unsafe" };
        isZero = await createImage(target.path, { ...wanted, ...(backing && { backing }) });
      }
      await copyInto(
        { ...target, cache, made: flags.create },
        source,
        {
          compressed: compress,
          offload,
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
        },
        bitmaps,
      );
    });
}

/** The image that is copied into. */
async function targetOf(to: string, { targetImageOpts, create, outputFormat, object = [] }: Flags) {
  if (!targetImageOpts) return { path: to, options: { format: outputFormat } };
  const refuse = (why: string) => new StorageError("STORAGE_OPEN", `--target-image-opts ${to}: ${why}`);
  if (create) throw refuse("it names a target that is there already: say -n");
  const { path, options } = await named(to, { imageOpts: true, object });
  if (options.format === undefined) throw refuse("it does not say the format: driver=");
  return { path, options: { ...options, format: options.format } };
}

/** The images that are copied, open to be read. */
class Sources implements AsyncDisposable {
  readonly #images: Image[] = [];

  /** What is copied: the only image, or all of them as one. */
  async open(paths: readonly string[], flags: Flags): Promise<Image> {
    const { salvage, quiet, rateLimit = 0 } = flags;
    for (const path of paths) this.#images.push(await openNamed(path, flags));
    let source = this.#images[0]!;
    if (this.#images.length > 1) {
      const { Concatenation } = await import("@lodge/storage");
      source = new Concatenation(this.#images);
    }
    if (rateLimit > 0) {
      const { RateLimitedImage, Throttle } = await import("@lodge/storage");
      source = new RateLimitedImage(source, new Throttle({ bps: rateLimit }));
    }
    if (!salvage) return source;
    const { SalvagedImage } = await import("@lodge/storage");
    return new SalvagedImage(source, (offset, length) => {
      if (quiet) return;
      console.error(`lodge: ${source.name}: ${length} bytes at ${offset} cannot be read: they are zeros in the copy`);
    });
  }

  get first(): Image {
    return this.#images[0]!;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const image of this.#images) await image.close();
  }
}

/** What has no meaning for several sources. */
function refuseJoined({ snapshot, bitmaps, backing, options = [] }: Flags): void {
  const refuse = (what: string) => new StorageError("STORAGE_OPEN", `${what}: only with a single source`);
  if (snapshot !== undefined) throw refuse("-l");
  if (bitmaps) throw refuse("--bitmaps");
  if (backing !== undefined || parseImageOptions(options).backingName !== undefined) throw refuse("-B");
}

/** The bitmaps that are to come along, if any are. */
async function bitmapsOf(source: Image, outputFormat: string, flags: Flags): Promise<BitmapCopy | undefined> {
  const refuse = (what: string) => new StorageError("STORAGE_OPEN", what);
  if (!flags.bitmaps) {
    if (flags.skipBrokenBitmaps) throw refuse("--skip-broken-bitmaps goes with --bitmaps");
    return undefined;
  }
  if (flags.snapshot !== undefined)
    throw refuse("--bitmaps says what was written until now, not until a snapshot (-l)");
  if (outputFormat !== "qcow2") {
    throw refuse(`--bitmaps: an image of the format ${outputFormat} keeps none: take -O qcow2`);
  }
  const { BitmapCopy } = await import("@lodge/storage");
  const bitmaps = await BitmapCopy.of(source);
  for (const name of bitmaps.broken) {
    const what = `${source.name}: bitmap ${JSON.stringify(name)} was not kept by whoever wrote the image last`;
    if (!flags.skipBrokenBitmaps) throw refuse(`${what}: --skip-broken-bitmaps leaves it out`);
    if (!flags.quiet) console.error(`lodge: ${what}: it is left out`);
  }
  return bitmaps;
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
