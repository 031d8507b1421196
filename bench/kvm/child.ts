/**
 * What has to be measured in a process of its own: the first machine of a process, what a process keeps resident, and exits and
 * machines in a process that has nothing of the benchmark's in it.
 */

import { readFileSync } from "node:fs";
import { addressOf } from "@lodge/linux";
import { median } from "../harness.ts";
import { creations, exits, HLT, SmallMachine } from "./machine.ts";

const print = { smaps: () => process.stdout.write(readFileSync("/proc/self/smaps", "utf8")) };

switch (process.argv[2]) {
  case "create":
    // Node loads what is behind `performance` at its first use; that is not the machine's.
    performance.now();
    console.log(creations(1)[0]);
    break;
  case "serve":
    // A line asks for so many exits or machines, and is answered by a line: nanoseconds for one.
    for await (const line of (await import("node:readline")).createInterface({ input: process.stdin })) {
      const [what, count] = line.split(" ");
      console.log(what === "exits" ? exits(Number(count)) : median(creations(Number(count))));
    }
    break;
  case "packages":
    print.smaps();
    break;
  case "machine": {
    using machine = new SmallMachine(HLT);
    machine.vcpu.run();
    print.smaps();
    console.log(`guest ${addressOf(machine.memory.buffer).toString(16)}`);
    break;
  }
}
