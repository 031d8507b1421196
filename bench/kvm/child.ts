/** What has to be measured in a process of its own: the first machine of a process, and what a process keeps resident. */

import { readFileSync } from "node:fs";
import { addressOf } from "@lodge/linux";
import { creations, HLT, SmallMachine } from "./machine.ts";

const print = { smaps: () => process.stdout.write(readFileSync("/proc/self/smaps", "utf8")) };

switch (process.argv[2]) {
  case "create":
    // Node loads what is behind `performance` at its first use; that is not the machine's.
    performance.now();
    console.log(creations(1)[0]);
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
