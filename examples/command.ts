/** One command in a fresh machine: `node examples/command.ts` in a clone. */

import { Machine } from "@lodge/vmm";

await using vm = await Machine.start({ image: "tiny", memory: "512M" });
const { stdout, status } = await vm.exec(["uname", "-a"]);
console.log(stdout.trimEnd(), `(status ${status}, on ${vm.accelerator.kind}: ${vm.accelerator.reason})`);
