/** `lodge net`: the named networks that machines of this user join with `--net switch=NAME`. */

import {
  changeForward,
  checkNetworkName,
  forgetSwitch,
  freeAddresses,
  NETWORK_MODES,
  type NetworkDefinition,
  NetworkError,
  readNetwork,
  readNetworks,
  removeNetwork,
  switchStatus,
  writeNetwork,
} from "@lodge/network";
import { parseCount } from "@lodge/vmm";
import { Command, Option } from "commander";
import { dumpCommand } from "./dump.ts";
import { showCommand } from "./show.ts";

interface CreateFlags {
  mode: NetworkDefinition["mode"];
  network?: string;
  network6?: string;
  mtu?: string;
  flood?: string;
  bridge?: true;
  loopback?: true;
  forward?: string[];
}

export function netCommand(): Command {
  const net = new Command("net").description("networks that machines of this user join: lodge run --net switch=NAME");
  for (const make of [listCommand, createCommand, removeCommand, showCommand, forwardCommand, dumpCommand])
    net.addCommand(make());
  return net;
}

function listCommand(): Command {
  return new Command("list")
    .description("list the networks, and how many machines are on each")
    .option("--json", "print them as JSON")
    .allowExcessArguments(false)
    .action(async ({ json }: { json?: true }) => {
      const all = await Promise.all(
        readNetworks().map(async (network) => ({
          ...network,
          machines: (await switchStatus(network.name))?.ports.length ?? 0,
        })),
      );
      if (json) console.log(JSON.stringify(all, undefined, 2));
      else {
        const width = Math.max(...all.map(({ name }) => name.length), 4) + 2;
        const row = (...[name, mode, network, machines]: string[]) =>
          console.log(`${name!.padEnd(width)}${mode!.padEnd(10)}${network!.padEnd(20)}${machines}`);
        row("NAME", "MODE", "NETWORK", "MACHINES");
        for (const { name, mode, network = "-", machines } of all) row(name, mode, network, String(machines));
      }
    });
}

function createCommand(): Command {
  return new Command("create")
    .argument("<name>", "what it is called")
    .description("keep the definition of a network; it lives while machines are on it")
    .addOption(
      new Option("--mode <mode>", "nat: addresses, names, a way out; isolated: no way out; bare: frames only")
        .choices(NETWORK_MODES)
        .default("nat"),
    )
    .option("--network <prefix>", "IPv4's addresses, such as 10.78.1.0/24 (default: some that are free)")
    .option("--network6 <prefix>", "IPv6's, of 64 bits")
    .option("--mtu <bytes>", "the largest IP packet (default: 1500)")
    .option("--flood <frames>", "frames a second that a machine may send to all (default: 2000)")
    .option("--bridge", "let the host's kernel carry it: a bridge, masquerading by nftables; needs CAP_NET_ADMIN")
    .option("--loopback", "lead the gateway's address to this host's loopback address")
    .option(
      "--forward <forward>",
      "lead a port of the host to a machine: tcp:127.0.0.1:8080-10.78.1.15:80; may be repeated",
      (text: string, before: string[] = []) => [...before, text],
    )
    .allowExcessArguments(false)
    .action((name: string, flags: CreateFlags) => {
      const others = readNetworks();
      if (others.some((other) => other.name === checkNetworkName(name))) {
        throw new NetworkError("NETWORK_CONFIG", `there is a network ${name} already; see lodge net show ${name}`);
      }
      const { mode, mtu, flood, forward, bridge, loopback, network, network6 } = flags;
      const free = mode === "bare" ? {} : freeAddresses(others);
      writeNetwork({
        name,
        mode,
        ...free,
        ...(network !== undefined && { network }),
        ...(network6 !== undefined && { network6 }),
        ...(mtu !== undefined && { mtu: parseCount(mtu, "--mtu") }),
        ...(flood !== undefined && { flood: parseCount(flood, "--flood") }),
        ...(bridge && { bridge }),
        ...(loopback && { loopback }),
        ...(forward !== undefined && { forwards: forward }),
      });
    });
}

function forwardCommand(): Command {
  return new Command("forward")
    .argument("<name>", "which network")
    .description("list the host's ports that lead into a network, or change them, also while machines are on it")
    .option("--add <forward>", "lead a port in: tcp:127.0.0.1:8080-10.78.1.15:80")
    .option("--remove <forward>", "lead it in no more")
    .allowExcessArguments(false)
    .action(async (name: string, { add, remove }: { add?: string; remove?: string }) => {
      if (remove !== undefined) await changeForward(name, { remove });
      if (add !== undefined) await changeForward(name, { add });
      if (add === undefined && remove === undefined) {
        for (const forward of readNetwork(name).forwards ?? []) console.log(forward);
      }
    });
}

function removeCommand(): Command {
  return new Command("rm")
    .argument("<name>", "which network")
    .description("forget a network that no machine is on")
    .allowExcessArguments(false)
    .action(async (name: string) => {
      readNetwork(name);
      const machines = (await switchStatus(name))?.ports.length;
      if (machines !== undefined) {
        throw new NetworkError(
          "NETWORK_HOST",
          `network ${name} is in use, by ${machines === 1 ? "a machine; end it" : `${machines} machines; end them`} first`,
        );
      }
      removeNetwork(name);
      forgetSwitch(name);
    });
}
