/** Addresses and the networks that they are in. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { isUnspecified, isWithin, parseAddress, parsePrefix } from "./address.ts";

const address = (text: string) => parseAddress(text)!;

test("an address is within a network by its first bits, wherever in a byte they end", () => {
  const cases: [text: string, network: string, isWithin: boolean][] = [
    ["10.0.2.15", "10.0.2.0/24", true],
    ["10.0.3.15", "10.0.2.0/24", false],
    ["10.0.3.255", "10.0.2.0/23", true],
    ["10.0.4.0", "10.0.2.0/23", false],
    ["172.31.255.255", "172.16.0.0/12", true],
    ["172.32.0.0", "172.16.0.0/12", false],
    ["10.0.2.2", "10.0.2.2/32", true],
    ["10.0.2.3", "10.0.2.2/32", false],
    ["255.255.255.255", "0.0.0.0/0", true],
    ["fe80::1", "fe80::/10", true],
    ["febf::1", "fe80::/10", true],
    ["fec0::1", "fe80::/10", false],
    ["fec0::1:2", "fec0::/64", true],
    ["fec0:0:0:1::2", "fec0::/64", false],
    ["::", "0.0.0.0/0", false],
    ["0.0.0.0", "::/0", false],
  ];
  for (const [text, network, expected] of cases) {
    assert.equal(isWithin(address(text), parsePrefix(network)!), expected, `${text} in ${network}`);
  }
});

test("only zeros are the address of nobody", () => {
  for (const text of ["0.0.0.0", "::"]) assert.ok(isUnspecified(address(text)), text);
  for (const text of ["0.0.0.1", "1.0.0.0", "::1", "8000::"]) assert.ok(!isUnspecified(address(text)), text);
});
