/** `lodge image import`: a machine of VMware's or VirtualBox's becomes one of ours. */

import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type ImportedMachine, importAppliance } from "@lodge/storage/ova";
import { formatSize, VmmError } from "@lodge/vmm";
import { Command, Option } from "commander";
import { Progress } from "../progress.ts";
import { beginning } from "../run/beginning.ts";

interface ImportFlags {
  into: string;
  outputFormat: "qcow2" | "raw";
  name?: string;
  json?: true;
}

export function importCommand(): Command {
  return new Command("import")
    .description("make a machine of an .ova, or of an .ovf with its files: its disks, and how to run it")
    .argument("<file>", "what VMware or VirtualBox has exported")
    .option("--into <folder>", "where its disks and its definition go", ".")
    .option("--name <name>", "what it is called; its own name unless it is given")
    .addOption(
      new Option("-O, --output-format <format>", "what its disks become").choices(["qcow2", "raw"]).default("qcow2"),
    )
    .option("--json", "print the definition instead of the command line")
    .allowExcessArguments(false)
    .action(async (file: string, { into, outputFormat, name, json }: ImportFlags) => {
      if (name !== undefined && !/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(name)) {
        throw new VmmError("VMM_CONFIG", `--name ${name}: letters, digits, dots, dashes and underscores, 64 at most`);
      }
      using progress = new Progress();
      using begun = beginning();
      const machine = await importAppliance(file, {
        into,
        format: outputFormat,
        progress: percents((step) => progress.step(step)),
        signal: begun.signal,
        ...(name !== undefined && { name }),
      });
      progress.done();
      const definition = JSON.stringify(machine, undefined, 2);
      await writeFile(join(into, `${machine.name}.json`), `${definition}\n`);
      if (json) console.log(definition);
      else console.log(`# ${summary(machine)}\n${runLine(machine)}`);
    });
}

/** Each percent is a step where steps replace each other; elsewhere they would be lines. */
function percents(show: (step: string) => void): (step: string, part: number) => void {
  let shown = "";
  return (step, part) => {
    const text = process.stderr.isTTY ? `${step}: ${Math.floor(part * 100)} %` : step;
    if (text !== shown) show(text);
    shown = text;
  };
}

function summary({ name, system, firmware, disks, networks }: ImportedMachine): string {
  const made = system === undefined ? "" : `, made for ${system.replace(/[^ -~]/g, "?")}`;
  return `${name}${made}, ${firmware}; ${disks.length} disks, ${networks.length} network cards`;
}

/** How it is run. A network card is virtio's whatever it was, and on the NAT: names of other networks mean nothing here. */
export function runLine({ cpus, coresPerSocket, memoryBytes, disks, networks }: ImportedMachine): string {
  const sockets = coresPerSocket === undefined ? undefined : cpus / coresPerSocket;
  const arranged = Number.isInteger(sockets) ? `,sockets=${sockets},cores=${coresPerSocket}` : "";
  const words = ["lodge", "run", "--cpus", `${cpus}${arranged}`, "--memory", formatSize(memoryBytes)];
  // A comma in a field is written twice.
  for (const { file, format } of disks) words.push("--disk", `${file.replaceAll(",", ",,")},format=${format}`);
  for (const { mac } of networks) words.push("--net", mac === undefined ? "nat" : `nat,mac=${mac}`);
  return words.map(quoted).join(" ");
}

function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
