/** `lodge image dd`: a part of a disk as an image of its own, with dd's operands. */

import { createImage, ImageWindow, StorageError } from "@lodge/storage";
import { Command, InvalidArgumentError } from "commander";
import { copyInto } from "./copy-into.ts";
import { type NamingFlags, openNamed } from "./options.ts";
import { parseSize } from "./size.ts";

interface Flags extends NamingFlags {
  outputFormat: string;
  forceShare?: true;
}

const OPERANDS = ["if", "of", "bs", "count", "skip"] as const;
type Operands = Partial<Record<(typeof OPERANDS)[number], string>>;
/** As dd's. */
const BLOCK_BYTES = 512;

export function ddCommand(): Command {
  return new Command("dd")
    .argument("<operands...>", "if=IMAGE of=NEW [bs=BYTES] [count=BLOCKS] [skip=BLOCKS]")
    .description("copy a part of a disk into a new image")
    .option("-f, --format <format>", "the source's format; its content decides unless it is given")
    .option("-O, --output-format <format>", "raw or qcow2", "raw")
    .option("-U, --force-share", "also while somebody writes the source")
    .action(async (texts: string[], flags: Flags) => {
      const { from, to, blockBytes, count, skip } = read(texts);
      const { outputFormat } = flags;
      const image = await openNamed(from, flags);
      try {
        const start = skip * blockBytes;
        if (start >= image.sizeBytes) {
          throw new StorageError("STORAGE_OPEN", `skip=${skip}: ${from} has only ${image.sizeBytes} bytes`);
        }
        const length = Math.min(image.sizeBytes - start, count * blockBytes);
        // A disk is of whole sectors; what is behind the last byte are zeros.
        await createImage(to, { format: outputFormat, sizeBytes: Math.ceil(length / 512) * 512, flushes: false });
        const target = { path: to, options: { format: outputFormat }, cache: "unsafe", made: true } as const;
        await copyInto(target, new ImageWindow(image, start, length), { mayZeroFirst: true, overZeros: true });
      } finally {
        await image.close();
      }
    });
}

function read(texts: readonly string[]) {
  const found: Operands = {};
  for (const text of texts) {
    const [name, ...rest] = text.split("=");
    const operand = OPERANDS.find((one) => one === name);
    if (operand === undefined || rest.length === 0) {
      throw new InvalidArgumentError(`${text} is no operand: there are ${OPERANDS.map((one) => `${one}=`).join(", ")}`);
    }
    found[operand] = rest.join("=");
  }
  const { if: from, of: to, bs, count, skip } = found;
  if (from === undefined || to === undefined) throw new InvalidArgumentError("dd needs if=IMAGE and of=NEW");
  const blockBytes = bs === undefined ? BLOCK_BYTES : parseSize(bs);
  if (blockBytes < 1) throw new InvalidArgumentError(`bs=${bs}: a block has at least one byte`);
  return {
    from,
    to,
    blockBytes,
    count: count === undefined ? Number.POSITIVE_INFINITY : parseSize(count),
    skip: skip === undefined ? 0 : parseSize(skip),
  };
}
