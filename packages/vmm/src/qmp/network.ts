/**
 * QMP's commands about network cards. Port forwards are changed as QEMU has it, by lines of its monitor for people:
 * `hostfwd_add net0 tcp:127.0.0.1:8080-:80`. A forward without an address listens at 127.0.0.1 here, not everywhere.
 */

import { formatForward, type Nat, parseForward } from "@lodge/network";
import type { Machine } from "../machine.ts";
import type { AttachedNetwork } from "../network.ts";
import type { Command } from "./command.ts";
import { QmpError } from "./protocol.ts";

export const NETWORK_COMMANDS: Readonly<Record<string, Command>> = {
  set_link: {
    takes: ["name", "up"],
    run: ({ networks }, { name, up }) => {
      if (typeof up !== "boolean") throw new QmpError("Parameter 'up' expects a boolean");
      const card = cardOf(networks, name);
      if (card === undefined) throw new QmpError(`Device '${name}' not found`, "DeviceNotFound");
      card.device.setLink(up);
      return {};
    },
  },
  "human-monitor-command": {
    takes: ["command-line"],
    run: (machine, { "command-line": line }) => {
      if (typeof line !== "string") throw new QmpError("Parameter 'command-line' expects a string");
      return monitor(machine, line);
    },
  },
};

function cardOf(networks: readonly AttachedNetwork[], name: unknown): AttachedNetwork | undefined {
  return networks.find(({ id }) => id === name);
}

/** What the monitor says, also of what it refuses. */
function monitor({ networks }: Machine, line: string): string {
  const [name = "", ...words] = line.trim().split(/\s+/);
  try {
    if (name === "info" && words[0] === "usernet") return userNetworks(networks);
    if (name !== "hostfwd_add" && name !== "hostfwd_remove") {
      return `unknown command: '${name}'; there is hostfwd_add, hostfwd_remove and info usernet\r\n`;
    }
    const [id, rule = id] = words;
    const { nat } = words.length > 1 ? (cardOf(networks, id) ?? {}) : (networks.find((card) => card.nat) ?? {});
    if (nat === undefined) return `${words.length > 1 ? `${id} is no card with NAT` : "no card has NAT"}\r\n`;
    if (name === "hostfwd_remove") return remove(nat, rule ?? "");
    nat.forwards.add(parseForward(rule ?? ""));
    return "";
  } catch (error) {
    return `${(error as Error).message}\r\n`;
  }
}

/** The host's side says which, as it does in QEMU; the whole is taken, too. */
function remove(nat: Nat, rule: string): string {
  const hostSide = (text: string) => text.slice(0, text.lastIndexOf("-"));
  // What is left out of the host's side is filled in by writing it again.
  const isWhole = /-(\[[^\]]*\]|[^:[\]-]*):\d+$/.test(rule);
  const wanted = formatForward(parseForward(isWhole ? rule : `${rule}-:1`));
  const found = nat.forwards.list.find(({ forward }) => {
    const text = formatForward(forward);
    return isWhole ? text === wanted : hostSide(text) === hostSide(wanted);
  });
  if (found === undefined) return `host forwarding rule for ${rule} not found\r\n`;
  nat.forwards.remove(found.forward);
  return `host forwarding rule for ${rule} removed\r\n`;
}

function userNetworks(networks: readonly AttachedNetwork[]): string {
  const lines = networks.flatMap(({ id, nat }) => {
    if (nat === undefined) return [];
    const forwards = nat.forwards.list.map(
      ({ forward, ports }) => `  ${formatForward(forward)} (port ${ports.join(", ")})`,
    );
    const { tcp, udp, pings } = nat.status;
    return [`${id}: ${tcp} TCP connections, ${udp} UDP ports, ${pings} pings`, ...forwards];
  });
  return lines.map((line) => `${line}\r\n`).join("");
}
