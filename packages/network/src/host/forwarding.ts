/**
 * Whether the host's kernel passes packets on, turned on where it was off and back again. A mark says that it was off before, also to
 * those that come after a crash.
 */

import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runtimeFolder } from "./runtime-folder.ts";

export interface Forwarding {
  readonly setting: string;
  readonly mark: string;
  /** The same setting of each device, which that of all changes as well, and which means something else. */
  readonly devices?: string;
}

export const IPV4: Forwarding = { setting: "/proc/sys/net/ipv4/ip_forward", mark: "ip_forward" };
export const IPV6: Forwarding = {
  setting: "/proc/sys/net/ipv6/conf/all/forwarding",
  mark: "ip6_forward",
  devices: "/proc/sys/net/ipv6/conf",
};

export function startForwarding({ setting, mark, devices }: Forwarding): void {
  if (readFileSync(setting, "utf8").trim() !== "0") return;
  writeFileSync(join(runtimeFolder(), mark), "");
  write("1", setting, devices);
}

export function stopForwarding({ setting, mark, devices }: Forwarding): void {
  const path = join(runtimeFolder(), mark);
  if (!existsSync(path)) return;
  write("0", setting, devices);
  rmSync(path, { force: true });
}

/**
 * IPv6 has its own mind of it: a device that forwards takes no router's advertisements any more, and the host would lose its way out.
 * Packets are passed on as that of all devices says, so each device's stays what it was.
 */
function write(value: string, setting: string, devices: string | undefined): void {
  const before = devices === undefined ? [] : readdirSync(devices).filter((name) => name !== "all");
  const were = before.map((name) => {
    const path = join(devices!, name, "forwarding");
    return { path, was: readFileSync(path, "utf8").trim() };
  });
  writeFileSync(setting, value);
  for (const { path, was } of were) {
    if (existsSync(path) && readFileSync(path, "utf8").trim() !== was) writeFileSync(path, was);
  }
}
