/** `--serial`: where the guest's console is. */

import { type SerialTarget, VmmError } from "@lodge/vmm";

export type SerialPlace = SerialTarget | { readonly to: "stdio" } | { readonly to: "none" };

export function parseSerial(text: string): SerialPlace {
  if (text === "stdio" || text === "pty" || text === "none") return { to: text };
  if (text.startsWith("file:") && text.length > "file:".length) return { to: "file", path: text.slice("file:".length) };
  throw new VmmError("VMM_CONFIG", `--serial ${text}: it is stdio, file:F, pty or none`);
}
