/** A named network as its machines find it: a switch behind a socket, with the gateway that the definition asks for. */

import { once } from "node:events";
import type { Socket } from "node:net";
import { pcapHeader, pcapRecord } from "../capture/pcap.ts";
import type { NetworkDefinition } from "../definition/definition.ts";
import { NetworkError } from "../errors.ts";
import { AddressBook } from "../filter/addresses.ts";
import { Filter } from "../filter/filter.ts";
import { CLEAN_TRAFFIC, parseFilter } from "../filter/rules.ts";
import { deviceCounters } from "../host/interface.ts";
import { listenUnix, type UnixStream } from "../host/unix-stream.ts";
import type { Lease, SavedLease } from "../nat/dhcp/leases.ts";
import { parseForward } from "../nat/forward.ts";
import { Nat } from "../nat/nat.ts";
import { DEFAULT_MTU } from "../nat/options.ts";
import { addressKey, formatAddress, formatMac, parseMac, sameAddress } from "../packet/address.ts";
import { finishChecksum, type PacketPort } from "../port.ts";
import { TapPort } from "../tap/port.ts";
import { bridgeName, KernelNetwork } from "./kernel-network.ts";
import {
  CarriedFrames,
  type PortHello,
  PROTOCOL,
  receiveLine,
  type SwitchStatus,
  sendFrame,
  sendLine,
} from "./protocol.ts";
import { NO_COUNTERS, type PortCounters, Switch } from "./switch.ts";
import { checkVlan, DEFAULT_VLAN } from "./vlan.ts";

/** Bytes that a machine leaves untaken before frames for it are lost: what NAT has on the way to it, four times. */
const MOST_WAITING = 4 << 20;
/** The same of who watches. */
const MOST_UNWATCHED = 16 << 20;
const MOST_PORTS = 1024;
const BROKEN = "it does not speak as a machine does";

export interface SwitchServerOptions {
  readonly definition: NetworkDefinition;
  /** Told how many are connected, whenever that changes. */
  readonly onClients?: (count: number) => void;
  /** The addresses that were given before, and where they are kept. */
  readonly leases?: { readonly before: readonly SavedLease[]; readonly keep: (leases: readonly SavedLease[]) => void };
}

/** How a machine that says nothing is filtered. */
const DEFAULT_FILTER = CLEAN_TRAFFIC;

interface Member {
  readonly hello: PortHello;
  readonly mac: Uint8Array;
  readonly counters: () => PortCounters;
}

export class SwitchServer implements AsyncDisposable {
  readonly #definition: NetworkDefinition;
  readonly #switch: Switch;
  readonly #nat: Nat | undefined;
  readonly #resources: DisposableStack;
  /** The kernel's bridge that carries the network, if one does. */
  readonly #bridge: string | undefined;
  readonly #kernel: KernelNetwork | undefined;
  readonly #clients = new Set<Socket>();
  /** By their cards' addresses. */
  readonly #members = new Map<string, Member>();
  /** By VLAN: whose an address is. */
  readonly #books = new Map<number, AddressBook<Member>>();
  /** By address: to which card DHCP gave it. */
  readonly #leased = new Map<string, string>();
  readonly #onClients: (count: number) => void;

  /** Serves at this path, where nothing is. Throws a `NetworkError` for what the definition asks for and cannot be had. */
  constructor(path: string, { definition, onClients = () => {}, leases }: SwitchServerOptions) {
    this.#definition = definition;
    this.#onClients = onClients;
    const { flood, mode } = definition;
    this.#switch = new Switch({ ...(flood !== undefined && { flood }) });
    using undo = new DisposableStack();
    const kernel = definition.bridge ? undo.use(new KernelNetwork(definition)) : undefined;
    this.#kernel = kernel;
    this.#bridge = kernel && bridgeName(definition.name);
    if (mode !== "bare") this.#nat = undo.use(this.#makeNat(kernel, leases));
    if (this.#nat && this.#bridge !== undefined) attachTo(undo.use(TapPort.onBridge(this.#bridge)), this.#nat);
    else if (this.#nat) this.#attachGateway(this.#nat);
    try {
      undo.use(listenUnix(path, (socket) => void this.#welcome(socket)));
    } catch (error) {
      throw new NetworkError("NETWORK_HOST", `network ${definition.name}: ${(error as Error).message}`);
    }
    this.#resources = undo.move();
  }

  #makeNat(kernel: KernelNetwork | undefined, leases: SwitchServerOptions["leases"]): Nat {
    const { mode, network, network6, mtu, loopback, forwards = [] } = this.#definition;
    const nat = new Nat({
      ...(kernel !== undefined && { router: kernel.router }),
      ...(kernel?.router6 !== undefined && { router6: kernel.router6 }),
      ...(network !== undefined && { network }),
      ...(network6 !== undefined && { network6 }),
      ...(mtu !== undefined && { mtu }),
      ...(loopback !== undefined && { loopback }),
      restrict: mode === "isolated",
      forwards: forwards.map(parseForward),
      stations: {
        nameOf: (mac) => this.#memberOf(mac)?.hello.name,
        isPresent: (mac) => this.#memberOf(mac) !== undefined,
        isTaken: (address) => this.#book(DEFAULT_VLAN).isClaimed(address),
        before: leases?.before ?? [],
        keep: (all) => {
          this.#noteLeases(nat.leases);
          leases?.keep(all);
        },
      },
    });
    this.#noteLeases(nat.leases);
    return nat;
  }

  #attachGateway(nat: Nat): void {
    const port = this.#switch.attach({
      deliver: (frame, offload) => {
        // What goes to all is others', too, and the gateway may write to what it has.
        nat.transmit(frame[0]! & 1 ? frame.slice() : frame, offload);
        return true;
      },
    });
    nat.connect({
      takes: { checksum: true, tcp4: true, tcp6: true },
      receive: (frame, offload) => {
        port.receive(frame, offload);
        return true;
      },
    });
  }

  #memberOf(mac: Uint8Array): Member | undefined {
    return this.#members.get(formatMac(mac));
  }

  #noteLeases(leases: Iterable<Lease>): void {
    this.#leased.clear();
    for (const { mac, address, address6, has6 } of leases) {
      for (const one of has6 ? [address, address6] : [address]) this.#leased.set(addressKey(one), formatMac(mac));
    }
  }

  /** The gateway's addresses. */
  get #reserved(): readonly Uint8Array[] {
    const gateway = this.#nat?.addresses;
    if (gateway === undefined) return [];
    return [gateway.gateway, gateway.gateway6, gateway.gatewayLocal6, gateway.names, gateway.names6];
  }

  /** The gateway and its addresses are in the first VLAN only. */
  #book(vlan: number): AddressBook<Member> {
    let book = this.#books.get(vlan);
    if (book !== undefined) return book;
    const gateway = vlan === DEFAULT_VLAN ? this.#nat?.addresses : undefined;
    book = new AddressBook<Member>({
      reserved: gateway ? this.#reserved : [],
      networks: gateway && [gateway.network, gateway.network6],
      leasedTo: (address) => gateway && this.#members.get(this.#leased.get(addressKey(address)) ?? ""),
    });
    this.#books.set(vlan, book);
    return book;
  }

  async #welcome(socket: UnixStream): Promise<void> {
    this.#clients.add(socket);
    this.#onClients(this.#clients.size);
    socket.on("error", () => socket.destroy());
    socket.once("close", () => {
      this.#clients.delete(socket);
      this.#onClients(this.#clients.size);
    });
    try {
      const hello = await receiveLine(socket);
      if (hello.protocol !== PROTOCOL) {
        throw new NetworkError("NETWORK_HOST", "it is served by another version of lodge; end its machines first");
      }
      if (hello.want === "status") {
        socket.end(`${JSON.stringify(this.status)}\n`);
      } else if (hello.want === "dump") this.#dump(socket);
      else if (hello.want === "forward") {
        this.#forward(hello);
        socket.end(`${JSON.stringify({})}\n`);
      } else if (hello.want === "port") this.#join(socket, checkHello(hello));
      else throw new NetworkError("NETWORK_HOST", BROKEN);
    } catch (error) {
      socket.end(`${JSON.stringify({ error: (error as Error).message })}\n`);
    }
  }

  #forward({ add, remove }: Record<string, unknown>): void {
    if (this.#nat === undefined || this.#bridge !== undefined)
      throw new NetworkError("NETWORK_HOST", "it has no NAT of ours");
    if (typeof add === "string") this.#nat.forwards.add(parseForward(add));
    if (typeof remove === "string") this.#nat.forwards.remove(parseForward(remove));
  }

  #join(socket: UnixStream, hello: PortHello): void {
    const mac = parseMac(hello.mac);
    if (mac === undefined) throw new NetworkError("NETWORK_HOST", BROKEN);
    if (this.#members.size >= MOST_PORTS) {
      throw new NetworkError("NETWORK_HOST", `it has ${MOST_PORTS} machines, and there is no room for more`);
    }
    const other = this.#memberOf(mac);
    if (other !== undefined) {
      const which = other.hello.name === undefined ? "another machine" : `machine ${other.hello.name}`;
      throw new NetworkError("NETWORK_HOST", `${which} on it has the address ${hello.mac}; give this one another mac=`);
    }
    if (this.#bridge === undefined) this.#joinSwitch(socket, hello, mac);
    else this.#joinBridge(socket, hello, mac);
  }

  #add(socket: Socket, member: Member): void {
    const key = formatMac(member.mac);
    this.#members.set(key, member);
    socket.once("close", () => {
      this.#members.delete(key);
      this.#nat?.left(member.mac);
      for (const book of this.#books.values()) book.release(member);
    });
  }

  /** The machine's tap is the bridge's port; it says which that is, and is there as long as its socket. */
  #joinBridge(socket: Socket, hello: PortHello, mac: Uint8Array): void {
    if (hello.vlan !== undefined || hello.trunk !== undefined) {
      throw new NetworkError("NETWORK_HOST", "it has a bridge of the kernel's, and no VLANs");
    }
    let device: string | undefined;
    this.#add(socket, {
      hello,
      mac,
      counters: () => ({ ...NO_COUNTERS, ...(device !== undefined && deviceCounters(device)) }),
    });
    const dhcp = this.#nat && formatAddress(this.#nat.addresses.gateway);
    sendLine(socket, {
      mtu: this.#definition.mtu ?? DEFAULT_MTU,
      bridge: this.#bridge!,
      reserved: [...this.#reserved, ...(this.#kernel?.reserved ?? [])].map(formatAddress),
      ...(dhcp !== undefined && { dhcp }),
    });
    receiveLine(socket).then(
      (told) => {
        if (typeof told.device === "string" && DEVICE.test(told.device)) device = told.device;
        // Nothing more is said.
        socket.on("data", () => socket.destroy()).resume();
      },
      () => socket.destroy(),
    );
  }

  #joinSwitch(socket: UnixStream, hello: PortHello, mac: Uint8Array): void {
    // Each VLAN has networks of its own.
    const filters = new Map<number, Filter>();
    const rules = parseFilter(hello.filter ?? DEFAULT_FILTER);
    const filterOf = (vlan: number): Filter => {
      const mayUse = (address: Uint8Array) => this.#book(vlan).mayUse(member, address);
      const filter = filters.get(vlan) ?? new Filter({ rules, mac, mayUse });
      filters.set(vlan, filter);
      return filter;
    };
    const port = this.#switch.attach({
      admits: (frame, vlan) => filterOf(vlan).accepts(frame),
      ...(hello.vlan !== undefined && { vlan: hello.vlan }),
      ...(hello.trunk !== undefined && { trunk: hello.trunk }),
      deliver: (frame, offload) => {
        if (socket.writableLength > MOST_WAITING || !socket.writable) return false;
        sendFrame(socket, frame, offload);
        return true;
      },
    });
    const member: Member = { hello, mac, counters: () => port.counters };
    this.#add(socket, member);
    socket.once("close", () => port[Symbol.dispose]());
    const frames = new CarriedFrames();
    sendLine(socket, { mtu: this.#definition.mtu ?? DEFAULT_MTU });
    frames.receiveFrom(socket, () => {
      for (let next = frames.next; next !== undefined; next = frames.next) {
        if (next === false) return void socket.destroy();
        port.receive(next.frame, next.offload);
        frames.take();
      }
    });
    socket.resume();
  }

  #dump(socket: Socket): void {
    if (this.#bridge !== undefined) {
      throw new NetworkError("NETWORK_HOST", `its frames are the kernel's: tcpdump -i ${this.#bridge}`);
    }
    sendLine(socket, {});
    socket.write(pcapHeader());
    const watch = this.#switch.watch((frame, offload) => {
      if (socket.writableLength > MOST_UNWATCHED) return;
      const whole = offload?.checksum === undefined ? frame : frame.slice();
      if (offload?.checksum !== undefined) finishChecksum(whole, offload.checksum);
      socket.write(pcapRecord(whole));
    });
    socket.once("close", () => watch[Symbol.dispose]()).resume();
  }

  get status(): SwitchStatus {
    const leases = [...(this.#nat?.leases ?? [])];
    const ports = [...this.#members.values()].map(({ hello, mac, counters }) => {
      const lease = leases.find((one) => sameAddress(one.mac, mac));
      const { want: _, ...rest } = hello;
      return {
        ...rest,
        mac: formatMac(mac),
        ...(lease && { address: formatAddress(lease.address) }),
        counters: counters(),
      };
    });
    return { pid: process.pid, ports };
  }

  /** Whoever is connected is cut off. */
  async [Symbol.asyncDispose](): Promise<void> {
    const closed = [...this.#clients].map((socket) => once(socket, "close"));
    for (const socket of this.#clients) socket.destroy();
    this.#resources.dispose();
    await Promise.all(closed);
  }
}

/** What comes from the device of a machine on a bridge is the machine's. */
function attachTo(tap: TapPort, nat: Nat): void {
  const takes = { checksum: true, tcp4: true, tcp6: true };
  const lead = (from: PacketPort, to: PacketPort) =>
    from.connect({
      takes,
      receive: (frame, offload) => {
        to.transmit(frame, offload);
        return true;
      },
    });
  lead(tap, nat);
  lead(nat, tap);
}

const DEVICE = /^lodge\d{1,9}$/;

/** What a machine may say of itself; everything else is left out. */
function checkHello({ mac, name, vlan, trunk, filter }: Record<string, unknown>): PortHello {
  const isGood =
    typeof mac === "string" &&
    (name === undefined || (typeof name === "string" && name.length <= 63)) &&
    (filter === undefined || typeof filter === "string") &&
    (vlan === undefined || typeof vlan === "number") &&
    (trunk === undefined || (Array.isArray(trunk) && trunk.every((id) => typeof id === "number")));
  if (!isGood) throw new NetworkError("NETWORK_HOST", BROKEN);
  if (vlan !== undefined) checkVlan(vlan as number);
  for (const id of (trunk as number[] | undefined) ?? []) checkVlan(id);
  return {
    want: "port",
    mac,
    ...(name !== undefined && { name: name as string }),
    ...(filter !== undefined && { filter: filter as string }),
    ...(vlan !== undefined && { vlan: vlan as number }),
    ...(trunk !== undefined && { trunk: trunk as number[] }),
  };
}
