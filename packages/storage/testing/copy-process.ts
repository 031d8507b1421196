/** A process that copies a raw image into a qcow2 one and kills itself when so many bytes are done: SOURCE TARGET BYTES. */

import { copyImage, openImage } from "../src/index.ts";

const [from, to, most] = process.argv.slice(2) as [string, string, string];
const source = await openImage(from, { format: "raw", readOnly: true });
const target = await openImage(to, { format: "qcow2" });
let storing: Promise<void> | undefined;
let stored = 0;
const store = async () => {
  await target.flush();
  stored += 1;
  storing = undefined;
};
const progress = (done: number) => {
  if (done >= Number(most) && stored > 0) process.kill(process.pid, "SIGKILL");
  // Tables are stored in the middle of it, again and again.
  storing ??= store();
};
await copyImage(source, target, { progress });
await storing;
process.kill(process.pid, "SIGKILL");
