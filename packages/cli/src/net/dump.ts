/** `lodge net dump`: everything on a network from now on, as tcpdump, tshark and Wireshark read it. */

import { createWriteStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { dumpSwitch, NetworkError } from "@lodge/network";
import { Command } from "commander";
import { onSignals, signalStatus } from "../run/signals.ts";

export function dumpCommand(): Command {
  return new Command("dump")
    .argument("<name>", "which network")
    .argument("[file]", "where to; standard output unless it is given", "-")
    .description("capture a network's frames as pcap, until interrupted: lodge net dump NAME | tshark -r -")
    .allowExcessArguments(false)
    .action(async (name: string, file: string) => {
      if (file === "-" && process.stdout.isTTY) {
        throw new NetworkError(
          "NETWORK_CONFIG",
          "a capture is nothing for a terminal: name a file, or pipe it into tshark -r -",
        );
      }
      const capture = await dumpSwitch(name);
      // The other side ends when it has sent all.
      using _signals = onSignals((signal) => {
        process.exitCode = signal === "SIGINT" ? 0 : signalStatus(signal);
        capture.end();
      });
      await pipeline(capture, file === "-" ? process.stdout : createWriteStream(file, { mode: 0o600 }));
      capture.destroy();
    });
}
