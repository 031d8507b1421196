/** Opens a KVM device as a user without rights and prints the error's code and message, for a test to read. */

import { openKvm } from "../src/linux/index.ts";

// Everything is loaded by now: the sources may lie where only root reads.
if (process.getuid!() === 0) {
  const nobody = 65534;
  process.setgroups!([]);
  process.setgid!(nobody);
  process.setuid!(nobody);
}

try {
  openKvm(process.argv[2]).close();
} catch (error) {
  const { code, message } = error as { code: string; message: string };
  console.log(JSON.stringify({ code, message }));
}
