/** A NAT that is not made before it is needed says the same of itself as one that is. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Nat, type NatOptions } from "@lodge/network";
import { LateNat } from "./late-nat.ts";

const nobody = { receive: () => true, takes: { checksum: true, tcp4: true, tcp6: true } };
const troubles: string[] = [];
const late = (options: NatOptions) => new LateNat(options, (message) => troubles.push(message));

test("what it says of itself is what every NAT says", () => {
  using nat = new Nat();
  using one = late({});
  for (const name of ["takesOffloads", "givesOffloads", "hasLargeDatagrams"] as const)
    assert.equal(one[name], nat[name]);
});

test("it is made for the first frame, and that frame goes through it", () => {
  using one = late({});
  const frames: Uint8Array[] = [];
  one.connect({ ...nobody, receive: (frame) => frames.push(frame.slice()) > 0 });
  one.reset();
  // ARP of 10.0.2.15 for 10.0.2.2 (RFC 826)
  const [own, address, gateway] = [
    [0x52, 0x54, 0, 1, 2, 3],
    [10, 0, 2, 15],
    [10, 0, 2, 2],
  ];
  const head = [...Array(6).fill(0xff), ...own, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1];
  one.transmit(Uint8Array.from([...head, ...own, ...address, ...Array(6).fill(0), ...gateway]));
  assert.deepEqual([...frames[0]!.subarray(28, 32)], gateway);
  assert.equal(one.made.status.framesFromGuest, 1);
  one[Symbol.dispose]();
  assert.deepEqual(troubles, []);
});

test("what can be refused is refused at once", () => {
  assert.throws(() => late({ network: "10.0.2.0/30" }), { code: "NETWORK_CONFIG" });
  assert.throws(() => late({ mtu: 10 }), { code: "NETWORK_CONFIG" });
});
