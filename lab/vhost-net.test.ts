/**
 * Cards on a tap whose rings the kernel serves: vhost-net of Debian's kernel, which the lab has and many hosts have not. Guests of a
 * few instructions ask by ARP, on real KVM and in software; their doorbells reach the kernel by ioeventfds on KVM.
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { labUnavailable, runInLab } from "./lab.ts";

const root = join(import.meta.dirname, "..");
/** The runner gives a file ten minutes. */
const timeoutMs = 9 * 60_000;

test("vhost-net carries frames of a tap and of a macvtap, on KVM and in software", {
  skip: (await labUnavailable()) ?? false,
}, async () => {
  const source = `
    import { spawnSync } from "node:child_process";
    import { VhostNetDevice } from "@lodge/devices";
    import { Machine, parseNetwork } from "@lodge/vmm";
    import { compile } from "${root}/packages/vmm/testing/kernel.ts";
    const mac = "52:54:00:12:34:56";
    const kernel = compile("arping.c", "/tmp");
    const run = (line) => {
      const { status, stderr } = spawnSync("sh", ["-c", line], { encoding: "utf8" });
      if (status !== 0) throw new Error(line + ": " + stderr);
    };
    for (const accel of ["kvm", "soft"]) {
      for (const [net, device] of [["tap,ifname=tap0,queues=2", "tap0"], ["macvtap=lower", "far"]]) {
        run("ip address flush dev far; ip address flush dev tap0; ip address add 10.9.9.2/24 dev " + device);
        await using machine = await Machine.start({
          accel, memory: "16M", kernel, debugExitPort: 0xf4, networks: [parseNetwork(net + ",mac=" + mac, "--net")],
        });
        const { device: card } = machine.networks[0];
        const end = await machine.ended;
        console.log(accel, net, card instanceof VhostNetDevice, JSON.stringify(end));
      }
    }
    const pcap = parseNetwork("tap,ifname=tap0,queues=2,vhost=on,pcap=/tmp/pcap", "--net");
    await Machine.start({ accel: "kvm", memory: "16M", kernel, networks: [pcap] }).catch(({ message }) => console.log(message));
    const off = parseNetwork("tap,ifname=tap0,queues=2,vhost=off", "--net");
    await using machine = await Machine.start({ accel: "kvm", memory: "16M", kernel, networks: [off] });
    console.log(machine.networks[0].device instanceof VhostNetDevice);
    await machine.stop();
    run("! ip -o link show type macvtap | grep lodge");
    run("! ls -l /proc/" + process.pid + "/fd | grep -e vhost -e net/tun");
  `;
  const script = `
    modprobe tun && modprobe vhost_net && modprobe macvtap && modprobe veth
    ip tuntap add tap0 mode tap multi_queue && ip link set tap0 up
    ip link add lower type veth peer name far && ip link set lower up && ip link set far up
    cat >lab/vhost-net-job.ts
    "$NODE" lab/vhost-net-job.ts`;
  const { stdout, stderr, status } = await runInLab(["sh", "-ec", script], {
    cwd: root,
    stdin: source,
    timeoutMs,
  });
  const good = ["kvm", "soft"].flatMap((accel) =>
    ["tap,ifname=tap0,queues=2", "macvtap=lower"].map(
      (net) => `${accel} ${net} true {"reason":"debug-exit","status":7}\n`,
    ),
  );
  const refused =
    "vhost: frames do not come by the machine's process then; leave pcap=, limits and filters out (filter=none)\n";
  assert.equal(stdout, `${good.join("")}${refused}false\n`, stderr);
  assert.equal(status, 0, stderr);
});
