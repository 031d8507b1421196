/** A switch with ports that are arrays, and a clock that is turned by hand. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "../../testing/script.ts";
import { parseMac } from "../packet/address.ts";
import type { Offload } from "../port.ts";
import { Switch, type SwitchPort } from "./switch.ts";
import { parseVlans, type VlanRule } from "./vlan.ts";

const ALL = "ff:ff:ff:ff:ff:ff";
const [A, B, C] = ["52:54:00:00:00:0a", "52:54:00:00:00:0b", "52:54:00:00:00:0c"];

function bytes(mac: string): Uint8Array {
  return parseMac(mac) ?? Uint8Array.from(mac.split(":"), (part) => Number.parseInt(part, 16));
}

/** With a tag if `vlan` is given; its payload is a text. */
function frame(from: string, to: string, payload: string, vlan?: number): Uint8Array {
  const tag = vlan === undefined ? [] : [0x81, 0, vlan >> 8, vlan & 0xff];
  return Uint8Array.from([...bytes(to), ...bytes(from), ...tag, 0x88, 0xb5, ...Buffer.from(payload)]);
}

class Bench {
  readonly clock = new ManualClock();
  readonly sw: Switch;
  /** What each port got since the last look: the payloads, with their VLAN where there is a tag. */
  readonly #got = new Map<SwitchPort, string[]>();
  offload: Offload | undefined;

  constructor(flood?: number) {
    this.sw = new Switch({ clock: this.clock, ...(flood !== undefined && { flood }) });
  }

  port(rule: VlanRule = {}): SwitchPort {
    const got: string[] = [];
    const port = this.sw.attach({
      ...rule,
      deliver: (data, offload) => {
        const isTagged = data[12] === 0x81 && data[13] === 0;
        const text = Buffer.from(data.subarray(isTagged ? 18 : 14)).toString();
        got.push(isTagged ? `${text} in ${(data[14]! << 8) | data[15]!}` : text);
        this.offload = offload;
        return true;
      },
    });
    this.#got.set(port, got);
    return port;
  }

  got(...ports: SwitchPort[]): string[][] {
    return ports.map((port) => this.#got.get(port)!.splice(0));
  }
}

test("frames go to all until their station was heard, and to its port from then on", () => {
  const bench = new Bench();
  const [a, b, c] = [bench.port(), bench.port(), bench.port()];
  a.receive(frame(A, B, "who"));
  assert.deepEqual(bench.got(a, b, c), [[], ["who"], ["who"]]);
  b.receive(frame(B, A, "me"));
  a.receive(frame(A, B, "you"));
  assert.deepEqual(bench.got(a, b, c), [["me"], ["you"], []]);
  a.receive(frame(A, ALL, "everybody"));
  a.receive(frame(A, "33:33:00:00:00:01", "a group"));
  assert.deepEqual(bench.got(a, b, c), [[], ["everybody", "a group"], ["everybody", "a group"]]);
  a.receive(frame(A, A, "myself"));
  a.receive(frame(ALL, B, "from a group"));
  a.receive(frame(A, "01:80:c2:00:00:0e", "LLDP"));
  a.receive(new Uint8Array(13));
  assert.deepEqual(bench.got(a, b, c), [[], [], []]);

  // A station that goes to another port is followed; one whose port is gone, or that is silent, is forgotten.
  c.receive(frame(B, ALL, "moved"));
  bench.got(a, b, c);
  a.receive(frame(A, B, "there"));
  assert.deepEqual(bench.got(a, b, c), [[], [], ["there"]]);
  c[Symbol.dispose]();
  a.receive(frame(A, B, "again"));
  assert.deepEqual(bench.got(a, b, c), [[], ["again"], []]);
  b.receive(frame(C, A, "c"));
  bench.clock.pass(299_000);
  const other = bench.port();
  a.receive(frame(A, C, "still"));
  assert.deepEqual(bench.got(b, other), [["still"], []]);
  bench.clock.pass(2_000);
  a.receive(frame(A, C, "aged"));
  assert.deepEqual(bench.got(b, other), [["aged"], ["aged"]]);
});

test("a port that pretends to be many stations makes only its own forgotten", () => {
  const bench = new Bench(100_000);
  const [liar, honest] = [bench.port(), bench.port()];
  honest.receive(frame(B, ALL, "here"));
  for (let number = 0; number < 5000; number++) {
    bench.clock.pass(1);
    liar.receive(frame(`02:00:00:00:${(number >> 8).toString(16)}:${(number & 0xff).toString(16)}`, B, "x"));
  }
  assert.equal(bench.sw.stationsOf(liar).length, 256);
  assert.deepEqual(bench.sw.stationsOf(honest), [0x52540000000b]);
});

test("what goes to all is limited for each port, and what goes to one station is not", () => {
  const bench = new Bench(10);
  const [a, b] = [bench.port(), bench.port()];
  b.receive(frame(B, ALL, "here"));
  bench.got(a);
  for (let number = 0; number < 100; number++) a.receive(frame(A, ALL, "storm"));
  assert.equal(bench.got(b)[0]!.length, 10);
  assert.equal(a.counters.flooding, 90);
  for (let number = 0; number < 100; number++) a.receive(frame(A, B, "talk"));
  b.receive(frame(B, ALL, "not limited by the other's"));
  assert.deepEqual([bench.got(b)[0]!.length, bench.got(a)[0]!.length], [100, 1]);
  bench.clock.pass(500);
  for (let number = 0; number < 100; number++) a.receive(frame(A, ALL, "storm"));
  assert.equal(bench.got(b)[0]!.length, 5);
});

test("VLANs are apart; a trunk has them with tags, and what is yet to be done to a frame moves with them", () => {
  const bench = new Bench();
  const [red, alsoRed, blue, trunk, plain] = [
    bench.port({ vlan: 10 }),
    bench.port({ vlan: 10 }),
    bench.port({ vlan: 20 }),
    bench.port({ trunk: parseVlans("10:20-21") }),
    bench.port(),
  ];
  const ports = [red, alsoRed, blue, trunk, plain];
  red.receive(frame(A, ALL, "red"), { checksum: { start: 16, offset: 1 } });
  assert.deepEqual(bench.got(...ports), [[], ["red"], [], ["red in 10"], []]);
  assert.deepEqual(bench.offload, { checksum: { start: 20, offset: 1 } });
  trunk.receive(frame(B, ALL, "to blue", 20), {
    checksum: { start: 18, offset: 2 },
    segments: { version: 4, size: 9, headerBytes: 18, congestion: false },
  });
  assert.deepEqual(bench.got(...ports), [[], [], ["to blue"], [], []]);
  assert.deepEqual(bench.offload, {
    checksum: { start: 14, offset: 2 },
    segments: { version: 4, size: 9, headerBytes: 14, congestion: false },
  });
  trunk.receive(frame(B, ALL, "untagged"));
  plain.receive(frame(C, ALL, "a priority only", 0));
  assert.deepEqual(bench.got(...ports), [[], [], [], ["a priority only"], ["untagged"]]);
  // One address in two VLANs is two stations.
  alsoRed.receive(frame(C, A, "in red"));
  assert.deepEqual(bench.got(...ports), [["in red"], [], [], [], []]);
  trunk.receive(frame(B, ALL, "of none", 30));
  red.receive(frame(A, ALL, "not its", 20));
  trunk.receive(frame(B, ALL, "before its tag", 20), { checksum: { start: 14, offset: 0 } });
  assert.deepEqual(bench.got(...ports), [[], [], [], [], []]);
  assert.deepEqual([trunk.counters.foreignVlan, red.counters.foreignVlan], [2, 1]);
  assert.throws(() => parseVlans("10:4095"), { code: "NETWORK_CONFIG", message: /VLAN 4095: there are 1 to 4094/ });
  assert.throws(() => parseVlans("all"), { code: "NETWORK_CONFIG" });
});
