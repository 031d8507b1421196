/** `lodge image check`. */

import {
  type CacheMode,
  type CheckResult,
  checkQcow2,
  fileCaching,
  openStore,
  probeFormat,
  type Repair,
  StorageError,
} from "@lodge/storage";
import { Command, Option } from "commander";
import { cacheOption, type NamingFlags, named } from "./options.ts";

/** qemu-img's statuses. */
const CORRUPT = 2;
const LEAKS = 3;

interface Flags extends NamingFlags {
  repair?: true;
  r?: Repair;
  output: string;
  json?: true;
  quiet?: true;
  forceShare?: true;
  sourceCache: CacheMode;
}

export function checkCommand(): Command {
  return new Command("check")
    .argument("<file>", "the image")
    .description("look for errors in a qcow2 image; the status is 0 without, 2 with corruption, 3 with lost space only")
    .option("-f, --format <format>", "the image's format; its content decides unless it is given")
    .option("--repair", "mend whatever can be mended")
    .addOption(new Option("-r <what>", "mend lost space only, or all").choices(["leaks", "all"]))
    .option("-U, --force-share", "also while somebody writes it: what is half written then looks like damage")
    .addOption(cacheOption("-T, --source-cache <mode>", "the image").default("writeback"))
    .option("--output <form>", "human or json, as for qemu-img", "human")
    .option("--json", "as JSON")
    .option("-q, --quiet", "say nothing: the status does")
    .allowExcessArguments(false)
    .action(async (file: string, flags: Flags) => {
      const { r = flags.repair ? "all" : "none", forceShare = false, sourceCache } = flags;
      const { path, options } = await named(file, flags);
      const opening = { ...fileCaching(sourceCache), readOnly: r === "none", lock: !forceShare };
      const store = await openStore(path, { ...opening, ...options });
      let result: CheckResult;
      try {
        const format = options.format ?? (await probeFormat(store));
        if (format !== "qcow2")
          throw new StorageError("STORAGE_OPEN", `${path}: images of the format ${format} have nothing to be checked`);
        result = await checkQcow2(store, r);
      } finally {
        await store.close();
      }
      if (flags.json || flags.output === "json") console.log(JSON.stringify(json(path, result), undefined, 4));
      else if (!flags.quiet) console.log(show(result));
      process.exitCode = result.corruptions > 0 ? CORRUPT : result.leaks > 0 ? LEAKS : 0;
    });
}

function json(filename: string, result: CheckResult): Record<string, unknown> {
  const nonZero = {
    "total-clusters": result.totalClusters,
    "allocated-clusters": result.allocatedClusters,
    "compressed-clusters": result.compressedClusters,
    "fragmented-clusters": result.fragmentedClusters,
    leaks: result.leaks,
    corruptions: result.corruptions,
    "leaks-fixed": result.leaksFixed,
    "corruptions-fixed": result.corruptionsFixed,
  };
  return {
    "image-end-offset": result.imageEndOffset,
    "check-errors": 0,
    filename,
    format: "qcow2",
    ...Object.fromEntries(Object.entries(nonZero).filter(([, count]) => count > 0)),
    ...(result.messages.length > 0 && { messages: result.messages }),
  };
}

function show(result: CheckResult): string {
  const lines = [...result.messages];
  const { corruptions, leaks, corruptionsFixed, leaksFixed } = result;
  if (corruptionsFixed + leaksFixed > 0)
    lines.push(`${corruptionsFixed} errors and ${leaksFixed} lost clusters were mended.`);
  if (corruptions > 0) lines.push(`${corruptions} errors are in the image: what is written to it may be lost.`);
  if (leaks > 0) lines.push(`${leaks} clusters are lost space; nothing else is wrong with them.`);
  if (corruptions + leaks === 0) lines.push("No errors were found on the image.");
  const share = (part: number, whole: number) => `${((part / Math.max(1, whole)) * 100).toFixed(2)}%`;
  const { allocatedClusters: allocated, totalClusters: total } = result;
  if (allocated > 0) {
    const fragmented = share(result.fragmentedClusters, allocated);
    lines.push(
      `${allocated}/${total} = ${share(allocated, total)} allocated, ${fragmented} fragmented, ${share(result.compressedClusters, allocated)} compressed clusters`,
    );
  }
  lines.push(`Image end offset: ${result.imageEndOffset}`);
  return lines.join("\n");
}
