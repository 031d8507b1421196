/** The small devices of a PC, register by register. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import {
  Cmos,
  DebugConsole,
  DebugExit,
  FirmwareConfig,
  KeyboardControllerReset,
  PanicDevice,
  PmOffset,
  PowerManagement,
  ResetControl,
  TestDevice,
  TestDeviceLines,
  TestDeviceMemory,
} from "./index.ts";

function clock(nowMs: number) {
  const time = { nowMs };
  const levels: boolean[] = [];
  let woken = 0;
  const cmos = new Cmos(Cmos.create({ lowBytes: 2 ** 30, highBytes: 2 ** 33, cpus: 4 }), {
    irq: { set: (high) => levels.push(high) },
    nowMs: () => time.nowMs,
    wakeHost: () => woken++,
  });
  const read = (register: number) => {
    cmos.write(0, 1, register);
    return cmos.read(1, 1);
  };
  const write = (register: number, value: number) => {
    cmos.write(0, 1, register);
    cmos.write(1, 1, value);
  };
  /** Century, year, month, day, hours, minutes, seconds. */
  const told = () => [0x32, 9, 8, 7, 4, 2, 0].map(read);
  return { cmos, time, levels, read, write, told, woken: () => woken };
}

test("the clock tells UTC in BCD, binary, and 12 hours", () => {
  const { told, write, read } = clock(Date.UTC(2026, 10, 26, 17, 43, 59, 500));
  assert.deepEqual(told(), [0x20, 0x26, 0x11, 0x26, 0x17, 0x43, 0x59]);
  assert.equal(read(6), 5, "a Thursday");
  write(11, 6);
  assert.deepEqual(told(), [20, 26, 11, 26, 17, 43, 59]);
  write(11, 0);
  assert.equal(read(4), 0x85, "five in the afternoon");
  assert.deepEqual([read(10) & 0x80, read(13)], [0, 0x80]);
});

test("it says when it is about to change", () => {
  const { read, time } = clock(Date.UTC(2026, 0, 1, 0, 0, 0, 999));
  assert.equal(read(10) & 0x80, 0);
  time.nowMs += 0.9;
  assert.equal(read(10) & 0x80, 0x80);
});

test("a guest sets it, and it goes on from there", () => {
  const { told, write, time } = clock(Date.UTC(2026, 10, 26));
  write(11, 0x82);
  for (const [register, value] of [
    [0x32, 0x19],
    [9, 0x99],
    [8, 0x12],
    [7, 0x31],
    [4, 0x23],
    [2, 0x59],
    [0, 0x58],
  ] as const) {
    write(register, value);
  }
  time.nowMs += 10_000;
  assert.deepEqual(told(), [0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x58], "it stands while it is set");
  write(11, 2);
  time.nowMs += 2_000;
  assert.deepEqual(told(), [0x20, 0, 1, 1, 0, 0, 0]);
});

test("seconds and alarms interrupt, when the guest wants that", () => {
  const { cmos, time, read, write, levels, woken } = clock(Date.UTC(2026, 10, 26, 12, 0, 0, 250));
  assert.equal(cmos.nextEvent(), undefined);
  write(11, 0x12);
  assert.equal(woken(), 1);
  assert.equal(cmos.nextEvent(), 750);
  time.nowMs += 750;
  cmos.expire();
  cmos.expire();
  assert.deepEqual(levels, [true]);
  assert.equal(read(12), 0x90);
  assert.deepEqual([levels, read(12)], [[true, false], 0]);

  // At 12:00:03, and every minute and hour.
  write(1, 3);
  write(3, 0xff);
  write(5, 0xff);
  write(11, 0x22);
  time.nowMs += 1000;
  cmos.expire();
  assert.equal(levels.length, 2);
  time.nowMs += 1000;
  cmos.expire();
  assert.deepEqual(levels, [true, false, true]);
  assert.equal(read(12) & 0xa0, 0xa0);
});

test("periods interrupt at the rate that is set; those that were missed are made up for", () => {
  const { cmos, time, read, write, levels, woken } = clock(Date.UTC(2026, 10, 26));
  time.nowMs = 1000;
  // 1024 Hz is what it begins with; now 64 Hz, 15.625 ms.
  write(10, 0x2a);
  write(11, 0x42);
  assert.equal(woken(), 2);
  assert.equal(cmos.nextEvent(), 15.625);
  time.nowMs += 15;
  cmos.expire();
  assert.deepEqual(levels, [], "it is early");
  time.nowMs += 0.625;
  cmos.expire();
  cmos.expire();
  assert.deepEqual([levels.splice(0), read(12)], [[true], 0xd0]);
  assert.deepEqual([levels.splice(0), read(12)], [[false], 0]);

  // Three have passed until somebody looks: one edge each, when the one before was acknowledged.
  time.nowMs += 3 * 15.625;
  cmos.expire();
  const flags = [1, 2, 3, 4].map(() => read(12) & 0xc0);
  assert.deepEqual(
    [flags, levels.splice(0)],
    [
      [0xc0, 0xc0, 0xc0, 0],
      [true, false, true, false, true, false],
    ],
  );
  // After a long time there is a bound.
  time.nowMs += 3_600_000;
  cmos.expire();
  let told = 0;
  while (read(12) & 0x80) told += 1;
  assert.equal(told, 1025);

  write(11, 2);
  assert.equal(cmos.nextEvent(), undefined);
  for (const [rate, periodMs] of [
    [1, 1000 / 256],
    [2, 1000 / 128],
    [3, 1000 / 8192],
    [15, 500],
  ] as const) {
    time.nowMs = 10_000;
    write(10, 0x20 | rate);
    write(11, 0x42);
    assert.equal(cmos.nextEvent(), periodMs);
    write(11, 2);
  }
  write(10, 0x20);
  write(11, 0x42);
  assert.equal(cmos.nextEvent(), undefined, "no rate, no periods");
});

test("its memory tells how much RAM and how many processors there are", () => {
  const { read } = clock(0);
  assert.deepEqual(
    [read(0x34) | (read(0x35) << 8), read(0x5b) | (read(0x5c) << 8), read(0x5f)],
    [(2 ** 30 - 2 ** 24) / 65536, 0, 3],
  );
  assert.equal(read(0x5d), 2);
});

test("ACPI: the power button interrupts until it is acknowledged; S5 switches off; the timer counts", () => {
  const levels: boolean[] = [];
  let off = 0;
  let nowNs = 0;
  const pm = new PowerManagement(PowerManagement.create(), {
    sci: { set: (high) => levels.push(high) },
    nowNs: () => nowNs,
    powerOff: () => off++,
  });
  pm.pressPowerButton();
  assert.deepEqual([levels, pm.read(PmOffset.EVENT, 2)], [[], 0x100]);
  pm.write(PmOffset.EVENT + 2, 2, 0x100);
  assert.deepEqual(levels, [true]);
  pm.write(PmOffset.EVENT, 2, 0x100);
  assert.deepEqual([levels, pm.read(PmOffset.EVENT, 4)], [[true, false], 0x1000000]);

  // General-purpose events share the line with it.
  const [status, enable] = [PmOffset.GENERAL, PmOffset.GENERAL + 2];
  pm.raise(1);
  pm.raise(9);
  assert.deepEqual([levels.splice(0), pm.read(status, 2)], [[true, false], 0x202]);
  pm.write(enable + 1, 1, 2);
  assert.deepEqual([levels, pm.read(enable, 2)], [[true], 0x200]);
  pm.pressPowerButton();
  pm.write(status, 2, 0x200);
  assert.deepEqual([levels, pm.read(status, 4)], [[true], 0x2000002]);
  pm.write(PmOffset.EVENT, 2, 0x100);
  assert.deepEqual(levels, [true, false]);

  assert.equal(pm.read(PmOffset.CONTROL, 2), 1, "SCI_EN");
  pm.write(PmOffset.CONTROL, 2, 0x2000 | (1 << 10));
  assert.equal(off, 0, "S1 is not there");
  pm.write(PmOffset.CONTROL, 2, 5 << 10);
  assert.equal(off, 0, "not without SLP_EN");
  pm.write(PmOffset.CONTROL, 2, 0x2000 | (5 << 10));
  assert.equal(off, 1);

  nowNs = 1e9;
  assert.equal(pm.read(PmOffset.TIMER, 4), 3_579_545);
  assert.equal(pm.read(PmOffset.TIMER + 1, 1) & 0xff, (3_579_545 >> 8) & 0xff);
  nowNs = 1e15;
  assert.ok(pm.read(PmOffset.TIMER, 4) < 2 ** 32);
});

test("fw_cfg: items by key, files by name, zeros behind their ends", () => {
  const config = new FirmwareConfig(FirmwareConfig.create(), {
    cpus: 3,
    maxCpus: 8,
    ramBytes: 2 ** 32 + 5,
    files: { "opt/b": Buffer.from("bee"), "opt/a": Buffer.from("a") },
  });
  const read = (key: number, count: number) => {
    config.write(0, 2, key);
    return Buffer.from(Array.from({ length: count }, () => config.read(1, 1)));
  };
  assert.equal(read(0, 4).toString(), "QEMU");
  assert.deepEqual([read(5, 2).readUInt16LE(), read(15, 2).readUInt16LE()], [3, 8]);
  assert.equal(read(3, 8).readBigUInt64LE(), 2n ** 32n + 5n);
  const files = read(0x19, 4 + 128);
  assert.equal(files.readUInt32BE(), 2);
  assert.match(files.toString("latin1", 12, 17), /opt\/a/);
  assert.equal(read(files.readUInt16BE(4 + 64 + 4), 5).toString("latin1"), "bee\0\0");
  assert.deepEqual([...read(0x7777, 2)], [0, 0]);
});

test("resets, the panic device and the debug exit say what was asked", () => {
  const asked: unknown[] = [];
  const keyboard = new KeyboardControllerReset(() => asked.push("keyboard"));
  const control = new ResetControl(() => asked.push("control"));
  const panic = new PanicDevice((crashLoaded) => asked.push(crashLoaded));
  const exit = new DebugExit((status) => asked.push(status));
  for (const value of [0xd1, 0xfe]) keyboard.write(0, 1, value);
  for (const value of [2, 6]) control.write(0, 1, value);
  for (const value of [0, 1, 2]) panic.write(0, 1, value);
  exit.write(0, 4, 0x10);
  exit.write(0, 1, 0xff);
  assert.deepEqual(asked, ["keyboard", "control", false, true, 0x21, 0xff]);
  assert.equal(panic.read(0, 1), 3);
});

test("the debug console hands on what is written, and wakes the host once", () => {
  let woken = 0;
  const console = new DebugConsole(DebugConsole.create(), () => woken++);
  assert.equal(console.read(0, 1), 0xe9);
  for (const byte of Buffer.from("text")) console.write(0, 1, byte);
  assert.deepEqual([Buffer.from(console.take()).toString(), woken], ["text", 1]);
});

test("a guest that says more than fits waits for the host, and nothing of it is lost", async () => {
  const shared = DebugConsole.create();
  const code = `
    import { parentPort, workerData } from "node:worker_threads";
    import { DebugConsole } from ${JSON.stringify(new URL("./index.ts", import.meta.url).href)};
    const console = new DebugConsole(workerData, () => parentPort.postMessage("woken"));
    for (let at = 0; at < 300_000; at++) console.write(0, 1, at % 251);
  `;
  const url = new URL(`data:text/javascript,${encodeURIComponent(code)}`);
  const writer = new Worker(url, { workerData: shared });
  const console = new DebugConsole(shared, () => {});
  const heard: Uint8Array[] = [];
  writer.on("message", () => heard.push(console.take()));
  await once(writer, "exit");
  heard.push(console.take());
  const all = Buffer.concat(heard);
  assert.equal(all.length, 300_000);
  assert.ok(all.every((byte, at) => byte === at % 251));
});

test("pc-testdev keeps ports and memory, and drives lines", () => {
  const device = new TestDevice(new SharedArrayBuffer(TestDevice.PORTS));
  device.write(0, 4, 0x11223344);
  device.write(1, 1, 0xff);
  device.write(4, 4, 0x5555);
  assert.deepEqual([device.read(0, 4), device.read(2, 2), device.read(4, 4)], [0x1122ff44, 0x1122, 0]);
  const memory = new TestDeviceMemory(new SharedArrayBuffer(TestDeviceMemory.BYTES));
  memory.write(0xfffe, 4, 0xaabbccdd);
  assert.equal(memory.read(0xfffe, 2), 0xccdd);
  const told: [number, boolean][] = [];
  const lines = new TestDeviceLines([0, 1, 2].map((line) => ({ set: (high: boolean) => told.push([line, high]) })));
  lines.write(2, 1, 1);
  lines.write(23, 1, 1);
  lines.write(2, 1, 0);
  assert.deepEqual(told, [
    [2, true],
    [2, false],
  ]);
});
