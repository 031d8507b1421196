/** What a pool makes of devices, for a host whose kernel has the device mapper (lab/multipath.test.ts). Prints it as JSON. */

import { DevicePool } from "../src/pools/index.ts";

const seen: Record<string, unknown> = {};
for (const device of process.argv.slice(2)) {
  seen[device] = await new DevicePool([device]).volumes().then(
    ([volume]) => volume!.path,
    (error: Error) => error.message,
  );
}
console.log(JSON.stringify(seen));
