/**
 * Cards on a tap whose rings the kernel serves: vhost-net of Debian's kernel, which the lab has and many hosts have not. Guests of a
 * few instructions ask by ARP, on real KVM and in software; their doorbells reach the kernel by ioeventfds on KVM.
 */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { test } from "node:test";
import { prepareImage } from "@lodge/vmm";
import { bootFunction } from "./guest-boot.ts";
import { labUnavailable, runInLab } from "./lab.ts";

const root = join(import.meta.dirname, "..");
/** The runner gives a file ten minutes. */
const timeoutMs = 9 * 60_000;

test("vhost-net carries frames of a tap and of a macvtap, on KVM and in software, also behind a pause and a reset", {
  skip: (await labUnavailable()) ?? false,
}, async () => {
  const source = `
    import { spawnSync } from "node:child_process";
    import { readFileSync } from "node:fs";
    import { setTimeout } from "node:timers/promises";
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
    // Nobody answers until the guest was paused and has begun anew.
    const asks = () => Number(readFileSync("/sys/class/net/tap0/statistics/rx_packets", "utf8"));
    const untilAsked = async () => {
      for (const before = asks(); asks() === before; ) await setTimeout(10);
    };
    {
      run("ip address flush dev far; ip address flush dev tap0");
      const network = parseNetwork("tap,ifname=tap0,queues=2,vhost=on,mac=" + mac, "--net");
      await using machine = await Machine.start({
        accel: "kvm", memory: "16M", kernel, debugExitPort: 0xf4, networks: [network],
      });
      await untilAsked();
      await machine.pause();
      const asked = asks();
      await setTimeout(300);
      const inPause = asks() - asked;
      machine.resume();
      await untilAsked();
      await machine.reset();
      await untilAsked();
      run("ip address add 10.9.9.2/24 dev tap0");
      console.log("in a pause", inPause, "behind a reset", JSON.stringify(await machine.ended));
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
  const again = 'in a pause 0 behind a reset {"reason":"debug-exit","status":7}\n';
  const refused =
    "vhost: frames do not come by the machine's process then; leave pcap=, limits and filters out (filter=none)\n";
  assert.equal(stdout, `${good.join("")}${again}${refused}false\n`, stderr);
  assert.equal(status, 0, stderr);
});

const short = process.env.LODGE_LONG === "1" ? false : "a guest's boot in the lab takes minutes: ./test --long";

/** What is carried each way, by each vCPU: the lab takes seconds for it. */
const BYTES = 256 << 10;

test("Debian's driver on KVM sends and gets data through vhost-net with two queues", {
  skip: short || ((await labUnavailable()) ?? false),
}, async () => {
  await prepareImage("tiny");
  const server = `require("node:net").createServer({ allowHalfOpen: true }, (socket) => {
    const hash = require("node:crypto").createHash("md5");
    socket.on("data", (data) => hash.update(data)).on("error", () => {}).on("end", () => socket.end(hash.digest("hex") + "\\n"));
  }).listen(7001);
  require("node:net").createServer((socket) => socket.on("error", () => {}).end(Buffer.alloc(${BYTES}, "down"))).listen(7000, () => console.log("there"));`;
  const inside = `
    ip address add 10.9.9.1/24 dev eth0; ip link set eth0 up
    ls -d /sys/class/net/eth0/queues/rx-1
    for cpu in 1 2; do
      taskset $cpu nc 10.9.9.2 7000 </dev/null | md5sum
      yes up | head -c ${BYTES} | taskset $cpu nc 10.9.9.2 7001
    done`;
  const script = `
    modprobe tun && modprobe vhost_net
    ip tuntap add tap0 mode tap multi_queue && ip address add 10.9.9.2/24 dev tap0 && ip link set tap0 up
    mkfifo /tmp/there; "$NODE" -e '${server}' >/tmp/there & read there </tmp/there
    ${bootFunction}
    BOOT_S=500
    boot --cpus 2 --memory 512M --net tap,ifname=tap0,queues=2,vhost=on -- sh -ec '${inside}'`;
  const { stdout, stderr, status } = await runInLab(["sh", "-c", script], { cwd: root, timeoutMs: 3 * timeoutMs });
  const md5 = (data: Buffer) => createHash("md5").update(data).digest("hex");
  const both = `${md5(Buffer.alloc(BYTES, "down"))}  -\n${md5(Buffer.alloc(BYTES, "up\n"))}\n`;
  assert.equal(stdout, `/sys/class/net/eth0/queues/rx-1\n${both}${both}`, stderr);
  assert.equal(status, 0, stderr);
});
