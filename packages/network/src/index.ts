/** A guest's network: user-mode NAT, named networks, taps, captures. Frames go through a {@link PacketPort}. */

export { CapturePort } from "./capture/capture-port.ts";
export { PcapFile } from "./capture/pcap.ts";
export { type Clock, systemClock } from "./clock.ts";
export {
  checkDefinition,
  checkNetworkName,
  freeAddresses,
  NETWORK_MODES,
  type NetworkDefinition,
  type NetworkMode,
} from "./definition/definition.ts";
export { readNetwork, readNetworks, removeNetwork, writeNetwork } from "./definition/store.ts";
export { type DatagramPlace, DatagramPort, parseDatagramPlace } from "./dgram/port.ts";
export { NetworkError, type NetworkErrorCode } from "./errors.ts";
export { FilterPort, type FilterPortOptions } from "./filter/filter-port.ts";
export { CLEAN_TRAFFIC, parseFilter, RULES, type Rule } from "./filter/rules.ts";
export { isMacvtapMode, MACVTAP_MODES, type MacvtapMode } from "./host/links.ts";
export { type CardLimits, LimitPort, type Rate } from "./limit/limit-port.ts";
export type { Resolvers } from "./nat/dns/upstream.ts";
export { type Forward, formatForward, parseForward } from "./nat/forward.ts";
export { Nat, type NatStatus } from "./nat/nat.ts";
export type { NatOptions } from "./nat/options.ts";
export { formatAddress, formatMac, parseAddress, parseMac, parsePrefix } from "./packet/address.ts";
export { finishChecksum, type GuestSide, type Offload, type PacketPort } from "./port.ts";
export { type StreamPlace, StreamPort } from "./stream/port.ts";
export { SwitchClient } from "./switch/client.ts";
export { changeForward, dumpSwitch, type MemberOptions, switchStatus } from "./switch/connection.ts";
export { type Joined, joinNetwork } from "./switch/join.ts";
export { forgetSwitch } from "./switch/place.ts";
export type { PortStatus, SwitchStatus } from "./switch/protocol.ts";
export type { PortCounters } from "./switch/switch.ts";
export { checkVlan, parseVlans, type VlanRule } from "./switch/vlan.ts";
export { TapPort } from "./tap/port.ts";
export { readVnetHeader, VnetHeader, writeVnetHeader } from "./vnet-header.ts";
