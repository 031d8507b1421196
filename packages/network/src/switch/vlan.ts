/** Virtual LANs (IEEE 802.1Q): which of them a port is in, and the tag that says so in a frame. */

import { NetworkError } from "../errors.ts";
import { Ethernet, putU16, u16 } from "../packet/ethernet.ts";
import type { Offload } from "../port.ts";

const TAG_TYPE = 0x8100;
const TAG_BYTES = 4;
const HEADERS = Ethernet.LENGTH + TAG_BYTES;
const ID_MASK = 0xfff;
const LAST = 4094;
/** The network without VLANs: where everything untagged is, the gateway too. */
export const DEFAULT_VLAN = 1;

export interface VlanRule {
  /** Where its untagged frames belong. Default: 1. */
  readonly vlan?: number;
  /** The VLANs whose frames go through it with a tag. Default: none. */
  readonly trunk?: readonly number[];
}

export interface Tagged {
  readonly vlan: number;
  /** Without tag. */
  readonly frame: Uint8Array;
  readonly offload: Offload | undefined;
}

export function checkVlan(number: number): number {
  if (Number.isInteger(number) && number >= 1 && number <= LAST) return number;
  throw new NetworkError("NETWORK_CONFIG", `VLAN ${number}: there are 1 to ${LAST}`);
}

/** `10:20-29`. */
export function parseVlans(text: string): number[] {
  return text.split(":").flatMap((part) => {
    const found = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(part);
    if (found === null) throw new NetworkError("NETWORK_CONFIG", `VLANs ${text}: write numbers and ranges, 10:20-29`);
    const [first, last] = [checkVlan(Number(found[1])), checkVlan(Number(found[2] ?? found[1]))];
    return Array.from({ length: Math.max(last - first + 1, 0) }, (_, at) => first + at);
  });
}

/** What comes in at a port; undefined where it may not. */
export function comingIn(frame: Uint8Array, offload: Offload | undefined, rule: VlanRule): Tagged | undefined {
  const own = rule.vlan ?? DEFAULT_VLAN;
  if (u16(frame, Ethernet.TYPE) !== TAG_TYPE) return { vlan: own, frame, offload };
  if (frame.length < HEADERS) return undefined;
  const id = u16(frame, Ethernet.LENGTH) & ID_MASK;
  // Number 0 is a priority and no VLAN.
  const vlan = id === 0 ? own : id;
  if (id !== 0 && !rule.trunk?.includes(id)) return undefined;
  // What is yet to be done must be behind the tag.
  if ((offload?.checksum?.start ?? HEADERS) < HEADERS || (offload?.segments?.headerBytes ?? HEADERS) < HEADERS) {
    return undefined;
  }
  const plain = new Uint8Array(frame.length - TAG_BYTES);
  plain.set(frame.subarray(0, Ethernet.TYPE));
  plain.set(frame.subarray(Ethernet.TYPE + TAG_BYTES), Ethernet.TYPE);
  return { vlan, frame: plain, offload: shifted(offload, -TAG_BYTES) };
}

/** What goes out at a port; undefined where it may not. */
export function goingOut({ vlan, frame, offload }: Tagged, rule: VlanRule): Omit<Tagged, "vlan"> | undefined {
  if (vlan === (rule.vlan ?? DEFAULT_VLAN)) return { frame, offload };
  if (!rule.trunk?.includes(vlan)) return undefined;
  const tagged = new Uint8Array(frame.length + TAG_BYTES);
  tagged.set(frame.subarray(0, Ethernet.TYPE));
  putU16(tagged, Ethernet.TYPE, TAG_TYPE);
  putU16(tagged, Ethernet.LENGTH, vlan);
  tagged.set(frame.subarray(Ethernet.TYPE), Ethernet.TYPE + TAG_BYTES);
  return { frame: tagged, offload: shifted(offload, TAG_BYTES) };
}

function shifted(offload: Offload | undefined, by: number): Offload | undefined {
  if (offload?.checksum === undefined) return offload;
  const { checksum, segments } = offload;
  return {
    checksum: { ...checksum, start: checksum.start + by },
    ...(segments && { segments: { ...segments, headerBytes: segments.headerBytes + by } }),
  };
}
