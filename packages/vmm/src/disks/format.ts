/** What format a disk's file has, where its user does not say. */

import { openStore, probeFormat } from "@lodge/storage";
import { VmmError } from "../errors.ts";

/** Formats by how a file's name ends. */
const ENDINGS: readonly (readonly [ending: RegExp, format: string])[] = [
  [/\.(qcow2|qcow)$/i, "qcow2"],
  [/\.vmdk$/i, "vmdk"],
  [/\.vhdx$/i, "vhdx"],
  [/\.vhd$/i, "vpc"],
  [/\.vdi$/i, "vdi"],
];

/** The name decides. Content that says something else is refused, not believed: a guest may have written it. */
export async function formatByName(file: string): Promise<string> {
  const format = ENDINGS.find(([ending]) => ending.test(file))?.[1];
  if (format !== undefined) return format;
  const store = await openStore(file, { readOnly: true, lock: false });
  const looks = await probeFormat(store).finally(() => store.close());
  if (looks === "raw") return looks;
  const say = `say format=${looks}, or format=raw if the guest shall see the file's bytes as they are`;
  throw new VmmError("VMM_CONFIG", `disk ${file} looks like ${looks}, and its name does not say so: ${say}`);
}
