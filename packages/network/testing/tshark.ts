/** What tshark, the judge of our frames, finds in a capture. */

import { command } from "./namespaces.ts";

/** What Lodge makes frames of. */
const OURS = new Set("arp data dhcp dhcpv6 dns eth ethertype frame icmp icmpv6 ip ipv6 tcp udp".split(" "));

/**
 * The errors in the frames of `file`, a line each: number and messages; of the frames only that a display filter lets through.
 * Checksums are checked. What our layers carry stays data: tshark takes it for a protocol by its port, and the kernel hands
 * out ports for a connection that are also those of protocols (44818 is EtherNet/IP's), whose form ours does not have.
 */
export function errorsIn(file: string, filter = "frame"): string {
  const known = command("tshark", "-G", "protocols").trim().split("\n");
  const others = known.map((line) => line.split("\t")[2]!).filter((name) => !OURS.has(name));
  const checksums = ["ip", "tcp", "udp"].flatMap((layer) => ["-o", `${layer}.check_checksum:TRUE`]);
  const errors = ["-Y", `_ws.expert.severity == error && (${filter})`];
  const fields = ["-T", "fields", "-e", "frame.number", "-e", "_ws.expert.message"];
  const off = others.flatMap((name) => ["--disable-protocol", name]);
  return command("tshark", ...off, "-r", file, ...checksums, ...errors, ...fields);
}
