/** Joining a named network, whatever carries its frames. */

import { FilterPort } from "../filter/filter-port.ts";
import { CLEAN_TRAFFIC, parseFilter } from "../filter/rules.ts";
import { parseAddress, parseMac } from "../packet/address.ts";
import type { PacketPort } from "../port.ts";
import { TapPort } from "../tap/port.ts";
import { SwitchClient } from "./client.ts";
import { type MemberOptions, Membership } from "./connection.ts";
import { sendLine } from "./protocol.ts";

export interface Joined extends Disposable {
  readonly port: PacketPort;
  /** The largest IP packet. */
  readonly mtu: number;
}

/** Throws a `NetworkError`; nothing is left behind then. */
export async function joinNetwork(options: MemberOptions): Promise<Joined> {
  using undo = new DisposableStack();
  const place = undo.use(await Membership.take(options));
  const { mtu, bridge, dhcp, reserved = [] } = place.welcome;
  let port: PacketPort = new SwitchClient(place);
  if (bridge !== undefined) {
    const tap = undo.use(TapPort.onBridge(bridge));
    // Whoever is asked for the network's machines finds its counters there.
    place.onJoined((socket) => {
      sendLine(socket, { device: tap.name });
      socket.resume();
    });
    const server = dhcp === undefined ? undefined : parseAddress(dhcp);
    port = new FilterPort(tap, {
      rules: parseFilter(options.filter ?? CLEAN_TRAFFIC),
      mac: parseMac(options.mac)!,
      reserved: reserved.flatMap((address) => parseAddress(address) ?? []),
      ...(server !== undefined && { dhcpServers: [server] }),
    });
  }
  const resources = undo.move();
  return { port, mtu, [Symbol.dispose]: () => resources.dispose() };
}
