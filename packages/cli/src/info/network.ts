/** What a guest's network can be made of. */

import type { HostFiles } from "./host-files.ts";
import type { Feature, Kernel } from "./kernel.ts";

export interface NetworkInfo {
  tun: Device;
  vhostNet: Device;
  bridge: Feature;
  nftables: Feature;
}

/** A device that opens, or why it does not; `loadable` when its kernel module would bring it. */
export interface Device {
  path: string;
  usable: boolean;
  /** The error's code. */
  refusal: string | undefined;
  module: Feature;
  moduleName: string;
}

export function network(files: HostFiles, kernel: Kernel): NetworkInfo {
  const device = (path: string, module: string, option: string): Device => {
    const refusal = files.refusal(path);
    return { path, usable: refusal === undefined, refusal, module: kernel.feature(module, option), moduleName: module };
  };
  return {
    tun: device("/dev/net/tun", "tun", "TUN"),
    vhostNet: device("/dev/vhost-net", "vhost_net", "VHOST_NET"),
    bridge: kernel.feature("bridge", "BRIDGE"),
    nftables: kernel.feature("nf_tables", "NF_TABLES"),
  };
}
