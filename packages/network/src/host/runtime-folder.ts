/** A folder for what lives as long as processes do: ${XDG_RUNTIME_DIR}/lodge, or /tmp/lodge-UID where there is no such variable. */

import { lstatSync, mkdirSync } from "node:fs";
import { userInfo } from "node:os";
import { isAbsolute, join } from "node:path";
import { NetworkError } from "../errors.ts";

/** Makes the folder, and trusts it only if nobody else can put anything there. */
export function runtimeFolder(): string {
  const { uid } = userInfo();
  const base = process.env.XDG_RUNTIME_DIR ?? "";
  const path = isAbsolute(base) ? join(base, "lodge") : `/tmp/lodge-${uid}`;
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const found = lstatSync(path);
  if (found.isDirectory() && found.uid === uid && (found.mode & 0o077) === 0) return path;
  throw new NetworkError(
    "NETWORK_HOST",
    `${path} is no folder of this user alone; remove it, or set XDG_RUNTIME_DIR to one that is`,
  );
}
