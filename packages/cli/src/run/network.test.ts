/** `--net` as a user gets it wrong: one line that says what to do, and status 2. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempDisposableSync, readdirSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { noImage } from "../../testing/image.ts";

const bin = join(import.meta.dirname, "../../bin/lodge.js");

for (const [net, message] of [
  ["nta", "--net nta: there is nat, switch=NAME, bridge=NAME, tap, macvtap=DEVICE, stream, dgram, vhost-user and none"],
  [
    "nat,colour=red",
    /there is no field "colour"; it has mac, mtu, queues, pcap, inbound, outbound, network, network6, restrict, loopback, hostfwd/,
  ],
  ["nat,hostfwd=80", /write tcp:127\.0\.0\.1:8080-:80/],
  ["nat,hostfwd=tcp:192.0.2.77:8080-:80", "cannot forward 192.0.2.77 port 8080: this host does not have that address"],
  ["nat,network=10.0.0.0/30", "network 10.0.0.0/30: it has 8 to 27 bits, such as 10.0.2.0/24"],
  ["nat,mac=01:00:00:00:00:00", /is no address of one station/],
  ["nat,mtu=9", "an MTU of 9: 1280 to 65520 are possible"],
  ["nat,pcap=/no/such/file", /^pcap \/no\/such\/file: ENOENT/],
  ["tap", "--net tap: which one? tap,ifname=NAME, or tap,fd=N for one that is open"],
  ["tap,fd=2", "tap of descriptor 2: it is no tap, or TUNSETIFF did not attach it to a device"],
  ["tap,fd=77", "tap of descriptor 77: nothing is open there; it has to be passed on to this process"],
  ["tap,fd=77:78,queues=2", "--net tap,fd=77:78,queues=2: it has as many queues as descriptors"],
  ["macvtap=lo,vhost=maybe", "vhost=maybe: it is on or off"],
  ["macvtap", "--net macvtap: on which device? macvtap=NAME; ip link says what there is"],
  ["macvtap=lo,mode=open", "mode=open: there is private, vepa, bridge, passthru"],
  ["macvtap=nothere", "macvtap on nothere: this host has no device of that name; ip link says which it has"],
  ["macvtap=lo", "macvtap on lo: the device takes none, or has others of another mode"],
  ["stream,server", /where\? stream,path=SOCKET/],
  ["stream,path=/no/such/socket", "cannot connect to /no/such/socket: nobody listens there; start that one first"],
  ["switch", "--net switch: which one? switch=NAME; lodge net list says what there is"],
  ["switch=nowhere", "there is no network nowhere; make it: lodge net create nowhere"],
  ["switch=../x", /a name is 1 to 32 letters/],
  ["switch=lab,vlan=5000", "VLAN 5000: there are 1 to 4094"],
  ["switch=lab,trunk=all", "VLANs all: write numbers and ranges, 10:20-29"],
  ["switch=lab,filter=no-fun", /there is clean-traffic, none, and no-mac-spoofing/],
  ["nat,inbound=10M:1M", "inbound=10M:1M: the peak is not below the average"],
  ["nat,outbound=0", "outbound=0: 0 would be nothing at all"],
  ["bridge", "--net bridge: which one? bridge=NAME; ip link show type bridge says what there is"],
  ["bridge=lo", "bridge lo: it is a device, but no bridge; ip link show type bridge says which are"],
  [
    "bridge=nobridge",
    /^bridge nobridge: this host has no device of that name; make one: ip link add nobridge type bridge/,
  ],
  ["bridge=br0,ip=10.0.0", "ip=10.0.0: this is no address of IPv4 or IPv6"],
  ["bridge=br0,dhcp=fe80::1", "dhcp=fe80::1: this is no address of IPv4"],
  ["vhost-user", /where does it listen\? vhost-user,path=SOCKET/],
  ["vhost-user,path=/nonexistent", "cannot connect to /nonexistent: nobody listens there; start that one first"],
  ["dgram,local=127.0.0.1:1", /between which two\? dgram,local=/],
  ["dgram,local=127.0.0.1,remote=127.0.0.1:1", "127.0.0.1: write an address and a port, 127.0.0.1:4000, or unix:PATH"],
  [
    "dgram,local=192.0.2.77:4000,remote=192.0.2.78:4000",
    "cannot receive at 192.0.2.77 port 4000: this host does not have that address",
  ],
  ["tap,ifname=a/b", /up to 15 characters/],
] as const) {
  test(`--net ${net}: one line and status 2`, { skip: noImage }, () => {
    const line = refused(net);
    if (typeof message === "string") assert.equal(line, message);
    else assert.match(line, message);
  });
}

test("a port that is taken, in a range too: one line and status 2", { skip: noImage }, async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  for (const ports of [port, `${port - 1}..${port}`]) {
    const line = refused(`nat,hostfwd=tcp::${ports}-:80`);
    assert.match(line, new RegExp(`^cannot forward 127\\.0\\.0\\.1 port ${port}: the port is taken`));
  }
  server.close();
});

const asRoot = process.getuid?.() === 0 ? false : "only root has a permission to give up";
for (const [net, message] of [
  ["bridge=lo", "bridge lo: no permission to add a port; CAP_NET_ADMIN is needed"],
  ["tap,ifname=mine0", "tap mine0: no permission; make it for this user: ip tuntap add NAME mode tap user $USER"],
  [
    "macvtap=lo",
    "macvtap on lo: no permission to make one; CAP_NET_ADMIN is needed, or one made for this user: tap,ifname=NAME",
  ],
] as const) {
  test(`--net ${net} without permission: one line, status 2, and nothing left`, { skip: noImage || asRoot }, () => {
    const devices = () => readdirSync("/sys/class/net");
    using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-nobody-"));
    const before = devices();
    assert.equal(refused(net, folder.path), message);
    assert.deepEqual(devices(), before);
    const run = join(folder.path, "lodge");
    assert.deepEqual(existsSync(run) ? readdirSync(run) : [], []);
  });
}

/** What `lodge run` says of a network; with a folder, as who may not change networks, and has that for what is running. */
function refused(net: string, folder?: string): string {
  const command = [process.execPath, bin, "run", "--net", net, "--", "true"];
  if (folder !== undefined) command.unshift("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin");
  const { stderr, status } = spawnSync(command[0]!, command.slice(1), {
    encoding: "utf8",
    env: { ...process.env, ...(folder !== undefined && { XDG_RUNTIME_DIR: folder }) },
  });
  assert.equal(status, 2, stderr);
  return (/lodge: (?!booting)(.*)\n$/.exec(stderr)?.[1] ?? "")
    .replace(/; see lodge --help$/, "")
    .replace(/^.*is invalid\. /, "");
}
