/** `lodge net show`: a network, the machines on it, and what went through their ports. */

import { type PortStatus, readNetwork, switchStatus } from "@lodge/network";
import { Command } from "commander";

export function showCommand(): Command {
  return new Command("show")
    .argument("<name>", "which network")
    .description("show a network, the machines on it, and what went through their ports")
    .option("--json", "print it as JSON")
    .allowExcessArguments(false)
    .action(async (name: string, { json }: { json?: true }) => {
      const definition = readNetwork(name);
      const status = await switchStatus(name);
      if (json) {
        console.log(JSON.stringify({ ...definition, ...status }, undefined, 2));
        return;
      }
      for (const [field, value] of Object.entries(definition)) {
        for (const one of Array.isArray(value) ? value : [value]) console.log(`${field}: ${one}`);
      }
      if (status === undefined) console.log("no machine is on it");
      else {
        console.log(`served by process ${status.pid}`);
        for (const port of status.ports) console.log(`\n${describe(port)}`);
      }
    });
}

function describe({ name = "(no name)", mac, address, filter, vlan, trunk, counters }: PortStatus): string {
  const { framesIn, bytesIn, framesOut, bytesOut, ...refused } = counters;
  const lines = [
    [name, mac, address ?? ""].join("  ").trimEnd(),
    ...(filter === undefined ? [] : [`  filter: ${filter}`]),
    ...(vlan === undefined ? [] : [`  VLAN ${vlan}`]),
    ...(trunk === undefined ? [] : [`  with tags: VLANs ${trunk.join(", ")}`]),
    `  sent ${framesIn} frames, ${bytesIn} bytes; received ${framesOut} frames, ${bytesOut} bytes`,
  ];
  const whys = Object.entries(refused).filter(([, count]) => count > 0);
  if (whys.length > 0)
    lines.push(`  not passed on: ${whys.map(([why, count]) => `${count} ${WHY[why] ?? why}`).join(", ")}`);
  return lines.join("\n");
}

/** The counters of what did not go through, in words. */
const WHY: Readonly<Record<string, string>> = {
  foreignVlan: "of a VLAN that is none of its",
  spoofed: "with an address that is not its",
  flooding: "beyond what it may send to all",
  lost: "for which it was too slow",
};
