/** A network card of a machine, and what it is connected to. */

// By their packages' names, so that of what a card may be connected to only that is loaded which it is.
import * as devices from "@lodge/devices";
import { randomBytes } from "@lodge/linux";
import * as net from "@lodge/network";
import type { NetworkOptions } from "./configuration/networks.ts";
import { LateNat } from "./late-nat.ts";

export interface AttachedNetwork extends AsyncDisposable {
  /** What it is called by the host: `net0` and so on, or as its user named it. */
  readonly id: string;
  readonly options: NetworkOptions;
  readonly mac: string;
  readonly device: devices.NetDevice | devices.VhostNetDevice;
  /** Of a card with NAT: its port forwards, which may be changed while the machine runs, and what it is doing. */
  readonly nat: net.Nat | undefined;
}

/** Connects a card. Throws a `NetworkError` of the host; nothing is left behind then. */
export async function attachNetwork(
  id: string,
  options: NetworkOptions,
  hostName: string | undefined,
  onTrouble: (message: string) => void,
): Promise<AttachedNetwork> {
  let { mac = madeUpMac() } = options;
  if (options.mode === "vhost-user") {
    const { path, mtu, queues: pairs } = options;
    const device = await devices.VhostNetDevice.connect({
      server: { path },
      mac,
      onTrouble,
      ...(mtu !== undefined && { mtu }),
      ...(pairs !== undefined && { pairs }),
    });
    return { id, options, mac, device, nat: undefined, [Symbol.asyncDispose]: async () => device[Symbol.dispose]() };
  }
  await using undo = new AsyncDisposableStack();
  const { pcap, queues = 1 } = options;
  let { mtu } = options;
  let nat: LateNat | undefined;
  let tap: net.TapPort | undefined;
  let port: net.PacketPort;
  if (options.mode === "nat") {
    nat = undo.use(new LateNat({ ...options, ...(hostName !== undefined && { hostName }) }, onTrouble));
    port = nat;
  } else if (options.mode === "tap") {
    tap = undo.use("fds" in options ? net.TapPort.adopt(options.fds) : net.TapPort.open(options.ifname, queues));
    if (tap.mac !== undefined) mac = checkMacvtapMac(tap.name, tap.mac, options.mac);
    mtu ??= tap.mtu;
    port = tap;
  } else if (options.mode === "macvtap") {
    tap = undo.use(net.TapPort.onDevice(options.device, options.kind ?? "bridge", net.parseMac(mac)!, queues));
    mtu = tap.mtu;
    port = tap;
  } else if (options.mode === "bridge") {
    const { bridge, filter = net.CLEAN_TRAFFIC, addresses = [], dhcpServers } = options;
    tap = undo.use(net.TapPort.onBridge(bridge, queues));
    mtu = tap.mtu;
    const own = addresses.map((address) => net.parseAddress(address)!);
    const rules = net.parseFilter(filter);
    port = tap;
    if (rules.length > 0)
      port = new net.FilterPort(tap, {
        rules,
        mac: net.parseMac(mac)!,
        addresses: own,
        ...(dhcpServers && { dhcpServers: dhcpServers.map((address) => net.parseAddress(address)!) }),
      });
  } else if (options.mode === "dgram") {
    port = undo.use(new net.DatagramPort(options.local, options.remote));
  } else if (options.mode === "switch") {
    const { network, vlan, trunk, filter } = options;
    const client = undo.use(
      await net.joinNetwork({
        network,
        mac,
        ...(hostName !== undefined && { name: hostName }),
        ...(filter !== undefined && { filter }),
        ...(vlan !== undefined && { vlan }),
        ...(trunk !== undefined && { trunk }),
      }),
    );
    mtu = client.mtu;
    port = client.port;
  } else {
    const { place, server = false } = options;
    port = undo.use(await (server ? net.StreamPort.listen(place) : net.StreamPort.connect(place)));
  }
  const { inbound, outbound } = options;
  if (inbound !== undefined || outbound !== undefined) {
    port = undo.use(new net.LimitPort(port, { ...(inbound && { inbound }), ...(outbound && { outbound }) }));
  }
  if (pcap !== undefined) port = new net.CapturePort(port, undo.use(new net.PcapFile(pcap)));
  const pairs = options.mode === "tap" && "fds" in options ? options.fds.length : queues;
  const card = { mac, pairs, ...(mtu !== undefined && { mtu }) };
  const device =
    port === tap && carriedByKernel(options)
      ? undo.use(await devices.VhostNetDevice.connect({ ...card, server: { tap }, onTrouble }))
      : new devices.NetDevice({ ...card, port });
  if ("vhost" in options && options.vhost && device instanceof devices.NetDevice) {
    throw new net.NetworkError(
      "NETWORK_CONFIG",
      "vhost: frames do not come by the machine's process then; leave pcap=, limits and filters out (filter=none)",
    );
  }
  const resources = undo.move();
  return {
    id,
    options,
    mac,
    device,
    get nat() {
      return nat?.made;
    },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

/** vhost-net, where it is wanted, or is there and not unwanted. */
function carriedByKernel(options: NetworkOptions): boolean {
  const wanted = "vhost" in options ? options.vhost : undefined;
  if (wanted === false) return false;
  const isThere = devices.KernelBackEnd.isThere;
  if (wanted && !isThere) {
    throw new net.NetworkError(
      "NETWORK_HOST",
      "vhost: /dev/vhost-net is not there, or not for this user; modprobe vhost_net, and its owner may be changed",
    );
  }
  return isThere;
}

/** A macvtap gives only frames for its own address, and who may use it need not be who may change that. */
function checkMacvtapMac(name: string, own: string, wanted: string | undefined): string {
  if (wanted === undefined || wanted.toLowerCase() === own) return own;
  throw new net.NetworkError(
    "NETWORK_CONFIG",
    `tap ${name}: it is a macvtap with the address ${own}, and so is its card; leave mac=${wanted} out`,
  );
}

/** QEMU's range of addresses that machines have, and three bytes by chance. */
function madeUpMac(): string {
  return net.formatMac(Uint8Array.of(0x52, 0x54, 0x00, ...randomBytes(3)));
}
