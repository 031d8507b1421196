/** `lodge image bench`: what qemu-img bench does, with its options. */

import { type CacheMode, isDirect, openImage, writesThrough } from "@lodge/storage";
import { Command, InvalidArgumentError, Option } from "commander";
import { cacheOption, type NamingFlags, named } from "./options.ts";
import { parseSize, wholeNumber } from "./size.ts";

interface Flags extends NamingFlags {
  count: number;
  depth: number;
  bufferSize: number;
  stepSize?: number;
  offset: number;
  pattern: number;
  write?: true;
  flushInterval: number;
  random?: true;
  cache: CacheMode;
  native?: true;
  forceShare?: true;
  quiet?: true;
  json?: true;
}

export function benchCommand(): Command {
  return new Command("bench")
    .argument("<file>", "the image")
    .description("send requests to an image, and tell how long they took")
    .option("-f, --format <format>", "the image's format; its content decides unless it is given")
    .option("-c, --count <n>", "how many requests", wholeNumber(1, 1e12), 75000)
    .option("-d, --depth <n>", "how many at once", wholeNumber(1, 65536), 64)
    .option("-s, --buffer-size <bytes>", "of a request", parseSize, 4096)
    .option("-S, --step-size <bytes>", "from one request to the next (default: the buffer size)", parseSize)
    .option("-o, --offset <bytes>", "of the first request", parseSize, 0)
    .option("-w, --write", "write instead of reading: what is in the image is lost")
    .option("--pattern <byte>", "what is written", wholeNumber(0, 255), 0)
    .option("--flush-interval <n>", "flush after so many writes; 0 is never", wholeNumber(0, 1e12), 0)
    .option("--no-drain", "do not wait for the other requests before a flush, which it never does")
    .addOption(cacheOption("-t, --cache <mode>", "the image").default("writeback"))
    .addOption(new Option("-i, --aio <how>", "how the host is asked").choices(["threads"]).default("threads"))
    .addOption(new Option("-n, --native", "qemu-img's name for -i native").hideHelp())
    .option("-U, --force-share", "also while somebody writes the image")
    .option("--random", "at offsets that a fixed sequence of random numbers says")
    .option("-q, --quiet", "say nothing")
    .option("--json", "as JSON")
    .allowExcessArguments(false)
    .action(async (file: string, flags: Flags) => {
      const { write = false, native } = flags;
      if (native) throw new InvalidArgumentError("-n: there is no native AIO here: requests go by -i threads");
      const { cache } = flags;
      const caching = { direct: isDirect(cache), flushes: cache !== "unsafe" };
      const opened = { readOnly: !write, lock: !flags.forceShare, ...caching };
      const { path, options } = await named(file, flags);
      const image = await openImage(path, { ...opened, ...options });
      try {
        const start = performance.now();
        await bench(image, flags);
        const seconds = (performance.now() - start) / 1000;
        if (flags.json)
          console.log(JSON.stringify({ seconds, requests: flags.count, perSecond: flags.count / seconds }));
        else if (!flags.quiet) console.log(`Run completed in ${seconds.toFixed(3)} seconds.`);
      } finally {
        await image.close();
      }
    });
}

async function bench(image: Awaited<ReturnType<typeof openImage>>, flags: Flags): Promise<void> {
  const {
    count,
    depth,
    bufferSize,
    stepSize = bufferSize,
    offset,
    pattern,
    write,
    flushInterval,
    random,
    cache,
  } = flags;
  const room = image.sizeBytes - bufferSize;
  let sent = 0;
  let at = offset;
  let unflushed = 0;
  let state = 1;
  const next = (): number => {
    const now = at;
    if (random) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      at = Math.floor(((state / 2 ** 32) * (room + 1)) / bufferSize) * bufferSize;
    } else {
      at += stepSize;
      if (at > room) at = offset > room ? 0 : (at % Math.max(1, room + 1)) - ((at % Math.max(1, room + 1)) % 512);
    }
    return now;
  };
  const worker = async () => {
    const pieces = [new Uint8Array(bufferSize).fill(pattern)];
    while (sent < count) {
      sent += 1;
      if (!write) {
        await image.read(next(), pieces);
        continue;
      }
      await image.write(next(), pieces);
      if (writesThrough(cache)) await image.flush();
      unflushed += 1;
      if (flushInterval > 0 && unflushed >= flushInterval) {
        unflushed = 0;
        await image.flush();
      }
    }
  };
  await Promise.all(Array.from({ length: depth }, worker));
}
