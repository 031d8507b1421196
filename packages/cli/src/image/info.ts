/** `lodge image info`. */

import { describeImage, type ImageInfo, openImage, Qcow2Image } from "@lodge/storage";
import { Command } from "commander";
import { type NamingFlags, named } from "./options.ts";
import { showSize } from "./size.ts";

export function infoCommand(): Command {
  return new Command("info")
    .argument("<file>", "the image")
    .description("show what an image is")
    .option("-f, --format <format>", "the image's format; its content decides unless it is given")
    .option("--backing-chain", "also show the images below it")
    .option("-U, --force-share", "also while somebody writes it")
    .option("--json", "as JSON")
    .option("--output <form>", "human or json, as for qemu-img", "human")
    .allowExcessArguments(false)
    .action(
      async (
        file: string,
        flags: NamingFlags & { backingChain?: true; forceShare?: true; json?: true; output: string },
      ) => {
        const { backingChain = false } = flags;
        const { path, options } = await named(file, flags);
        const opening = { readOnly: true, backing: backingChain, lock: flags.forceShare !== true };
        const image = await openImage(path, { ...opening, ...options });
        const infos: ImageInfo[] = [];
        try {
          for (let one: typeof image | undefined = image; one !== undefined; ) {
            infos.push(await describeImage(one));
            one = one instanceof Qcow2Image ? one.backing : undefined;
          }
        } finally {
          await image.close();
        }
        if (flags.json || flags.output === "json")
          console.log(JSON.stringify(backingChain ? infos : infos[0], undefined, 4));
        else console.log(infos.map(show).join("\n\n"));
      },
    );
}

function show(info: ImageInfo): string {
  const lines = [
    `image: ${info.filename}`,
    `file format: ${info.format}`,
    `virtual size: ${showSize(info["virtual-size"])} (${info["virtual-size"]} bytes)`,
  ];
  if (info["actual-size"] !== undefined) lines.push(`disk size: ${showSize(Number(info["actual-size"]))}`);
  if (info["cluster-size"] !== undefined) lines.push(`cluster_size: ${info["cluster-size"]}`);
  if (info["backing-filename"] !== undefined) lines.push(`backing file: ${info["backing-filename"]}`);
  if (info["backing-filename-format"] !== undefined)
    lines.push(`backing file format: ${info["backing-filename-format"]}`);
  const snapshots = info.snapshots as Record<string, unknown>[] | undefined;
  if (snapshots !== undefined) lines.push("Snapshot list:", ...snapshotTable(snapshots));
  const specific = info["format-specific"] as { data: Record<string, unknown> } | undefined;
  if (specific !== undefined) {
    lines.push("Format specific information:");
    for (const [key, value] of Object.entries(specific.data)) {
      const text = typeof value === "object" ? JSON.stringify(value) : String(value);
      lines.push(`    ${key.replaceAll("-", " ")}: ${text}`);
    }
  }
  return lines.join("\n");
}

/** Rows as qemu-img has them. */
export function snapshotTable(snapshots: readonly Record<string, unknown>[]): string[] {
  const rows = snapshots.map((snapshot) => {
    const date = new Date(Number(snapshot["date-sec"]) * 1000).toISOString().slice(0, 19).replace("T", " ");
    return [String(snapshot.id), String(snapshot.name), showSize(Number(snapshot["vm-state-size"])), date];
  });
  const pad = (row: readonly string[]) =>
    `${row[0]!.padEnd(9)} ${row[1]!.padEnd(16)} ${row[2]!.padStart(9)} ${row[3]!.padStart(19)}`;
  return [["ID", "TAG", "VM SIZE", "DATE (UTC)"], ...rows].map(pad);
}
