/** Two machines and a cable between them: what one serves, the other fetches. Neither sees any other network. */

import { mkdtempDisposableSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Machine, type NetworkOptions } from "@lodge/vmm";

using directory = mkdtempDisposableSync(join(tmpdir(), "lodge-example-"));
const place = { path: join(directory.path, "cable") };

/** A machine at one end of the cable, with an address of its own. */
async function start(name: string, address: string, network: NetworkOptions): Promise<Machine> {
  const vm = await Machine.start({ image: "tiny", name, memory: "128M", networks: [network] });
  await run(vm, `ip address add ${address}/24 dev eth0; ip link set eth0 up`);
  return vm;
}

async function run(vm: Machine, script: string): Promise<string> {
  const { stdout, stderr, status } = await vm.exec(["sh", "-ec", script]);
  if (status !== 0) throw new Error(`${vm.name} says: ${stderr}`);
  return stdout;
}

await using server = await start("server", "10.1.1.1", { mode: "stream", place, server: true });
await using client = await start("client", "10.1.1.2", { mode: "stream", place });

await run(server, "echo 'hello from the other machine' >/tmp/greeting; httpd -h /tmp");
console.log((await run(client, "wget -q -O - http://10.1.1.1/greeting")).trimEnd());
