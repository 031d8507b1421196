import assert from "node:assert/strict";
import { test } from "node:test";
import { isNbdUri, parseNbdUri } from "./address.ts";

for (const [uri, expected] of [
  ["nbd://host", { to: { host: "host", port: 10809 }, exportName: "" }],
  ["nbd://host:1234/a/b%20c", { to: { host: "host", port: 1234 }, exportName: "a/b c" }],
  ["NBD://[::1]:99/x", { to: { host: "::1", port: 99 }, exportName: "x" }],
  ["nbd+unix:///x?socket=/run/a+b", { to: { path: "/run/a+b" }, exportName: "x" }],
  ["nbd://host/x?connections=4", { to: { host: "host", port: 10809 }, exportName: "x", connections: 4 }],
  ["nbd+unix://?socket=/s", { to: { path: "/s" }, exportName: "" }],
  [
    "nbds://me@host/x?tls-psk-file=/keys",
    { to: { host: "host", port: 10809 }, exportName: "x", tls: { psk: "/keys", user: "me" } },
  ],
  [
    "nbds+unix://a%20b@/x?socket=/s&tls-psk-file=/keys",
    { to: { path: "/s" }, exportName: "x", tls: { psk: "/keys", user: "a b" } },
  ],
  [
    "nbds+unix:///?socket=/s&tls-certificates=/pki&tls-hostname=a.b",
    { to: { path: "/s" }, exportName: "", tls: { certificates: "/pki" }, tlsHostname: "a.b" },
  ],
] as const) {
  test(uri, () => {
    assert.ok(isNbdUri(uri));
    assert.deepEqual(parseNbdUri(uri), { uri, ...expected });
  });
}

for (const [uri, why] of [
  ["http://host/", /begins with nbd:/],
  ["nbd:///x", /there is no host/],
  ["nbd://host:99999/", /no address/],
  ["nbd://host/%zz", /no address/],
  ["nbd://host/?socket=/s", /goes with nbd\+unix/],
  ["nbd+unix:///x", /path of the socket is missing/],
  ["nbd+unix://host/x?socket=/s", /has no host/],
  ["nbd://host/?colour=red", /"colour" is no parameter/],
  ["nbd://host/?connections=0", /connections is 1 to 16, not "0"/],
  ["nbd://host/?connections=2e1", /connections is 1 to 16/],
  ["nbds://host/", /TLS needs tls-certificates=FOLDER or tls-psk-file=FILE/],
  ["nbd://host/?tls-psk-file=/keys", /scheme nbds/],
  ["nbd://host/?tls-hostname=x", /scheme nbds/],
  [`nbd://host/${"x".repeat(4097)}`, /4096 bytes at most/],
] as const) {
  test(`refused: ${uri.slice(0, 40)}`, () => {
    assert.throws(() => parseNbdUri(uri), { code: "STORAGE_OPEN", message: why });
  });
}
