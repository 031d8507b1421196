/** `lodge info`: what this host offers. */

import { Command } from "commander";
import { realFiles } from "./host-files.ts";
import { layOut } from "./layout.ts";
import { gather } from "./report.ts";
import { allCapabilities, sections } from "./text.ts";

/** As wide as a terminal was when they were paper; wider lines read worse. */
const COLUMNS = 80;

interface Options {
  json?: true;
  all?: true;
}

export function infoCommand(): Command {
  return new Command("info")
    .description("print what this host offers to virtual machines")
    .option("--json", "print it as JSON")
    .option("--all", "list every capability of KVM with its value")
    .allowExcessArguments(false)
    .action(({ json, all }: Options) => {
      const report = gather(realFiles());
      if (json) {
        console.log(JSON.stringify(report, (_, value) => value ?? null, 2));
        return;
      }
      console.log(layOut(sections(report), COLUMNS).replaceAll("\u00a0", " "));
      if (all && report.kvm.present) {
        console.log(`\nEvery capability, unknown ones by number\n${allCapabilities(report.kvm.capabilities)}`);
      }
    });
}
