/** The APIC timer and the 8254 by a clock that the test moves. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Reg, TimerMode } from "./lapic-registers.ts";
import { PIT_HZ } from "./pit.ts";
import { SoftMachine } from "./testing/soft-machine.ts";

const APIC = 0xfee00000;
const VECTOR = 0x40;

/** One processor with its APIC on and the timer's LVT set. */
function machine(mode: number, divide = 0xb): SoftMachine {
  const soft = new SoftMachine(1);
  write(soft, Reg.SVR, 0x1ff);
  write(soft, Reg.LVT_LINT0, 0x10000);
  write(soft, Reg.LVT_TIMER, mode | VECTOR);
  write(soft, Reg.TIMER_DIVIDE, divide);
  return soft;
}

function write(soft: SoftMachine, offset: number, value: number): void {
  soft.vcpus[0]!.writeMmio(APIC + offset, 4, value);
}
function read(soft: SoftMachine, offset: number): number {
  return soft.vcpus[0]!.readMmio(APIC + offset, 4);
}
/** Takes and ends an interrupt; which, or -1. */
function serve(soft: SoftMachine): number {
  const vector = soft.vcpus[0]!.acknowledge();
  if (vector >= 0) write(soft, Reg.EOI, 0);
  return vector;
}

describe("APIC timer", () => {
  test("a one-shot counts down, fires once and stays at 0", () => {
    const soft = machine(TimerMode.ONE_SHOT);
    write(soft, Reg.TIMER_INITIAL, 1_000_000);
    assert.equal(soft.vcpus[0]!.nextDeadline, soft.nowNs + 1_000_000);
    soft.advance(400_000);
    assert.equal(read(soft, Reg.TIMER_CURRENT), 600_000);
    assert.equal(serve(soft), -1);
    soft.woken.clear();
    soft.advance(600_000);
    assert.ok(soft.woken.has(0));
    assert.equal(read(soft, Reg.TIMER_CURRENT), 0);
    assert.equal(serve(soft), VECTOR);
    soft.advance(10_000_000);
    assert.equal(serve(soft), -1);
    assert.equal(soft.vcpus[0]!.nextDeadline, Number.POSITIVE_INFINITY);
  });

  test("every divide configuration", () => {
    for (const [value, divisor] of [
      [0, 2],
      [1, 4],
      [2, 8],
      [3, 16],
      [8, 32],
      [9, 64],
      [10, 128],
      [11, 1],
    ] as const) {
      const soft = machine(TimerMode.ONE_SHOT, value);
      write(soft, Reg.TIMER_INITIAL, 5000);
      assert.equal(soft.vcpus[0]!.nextDeadline - soft.nowNs, 5000 * divisor, `divide configuration ${value}`);
    }
  });

  test("a new divisor stretches what is left", () => {
    const soft = machine(TimerMode.ONE_SHOT, 11);
    write(soft, Reg.TIMER_INITIAL, 1_000_000);
    soft.advance(250_000);
    write(soft, Reg.TIMER_DIVIDE, 0);
    assert.equal(soft.vcpus[0]!.nextDeadline - soft.nowNs, 1_500_000);
    assert.equal(read(soft, Reg.TIMER_CURRENT), 750_000);
  });

  test("a periodic timer keeps its phase when it is looked at late", () => {
    const soft = machine(TimerMode.PERIODIC);
    const start = soft.nowNs;
    write(soft, Reg.TIMER_INITIAL, 1_000_000);
    soft.nowNs = start + 3_400_000;
    soft.vcpus[0]!.expire(soft.nowNs);
    assert.equal(serve(soft), VECTOR);
    assert.equal(serve(soft), -1, "three periods are one interrupt");
    assert.equal(soft.vcpus[0]!.nextDeadline, start + 4_000_000);
  });

  test("a period below KVM's least is lengthened", () => {
    const soft = machine(TimerMode.PERIODIC);
    write(soft, Reg.TIMER_INITIAL, 10);
    assert.equal(soft.vcpus[0]!.nextDeadline - soft.nowNs, 200_000);
  });

  test("initial count 0 stops it", () => {
    const soft = machine(TimerMode.PERIODIC);
    write(soft, Reg.TIMER_INITIAL, 1_000_000);
    write(soft, Reg.TIMER_INITIAL, 0);
    assert.equal(soft.vcpus[0]!.nextDeadline, Number.POSITIVE_INFINITY);
  });

  test("a TSC deadline fires once, is 0 after that, and can lie in the past", () => {
    const soft = machine(TimerMode.TSC_DEADLINE);
    const vcpu = soft.vcpus[0]!;
    const at = soft.nowNs + 5_000_000;
    vcpu.writeMsr(0x6e0, at % 2 ** 32, Math.floor(at / 2 ** 32));
    assert.equal(vcpu.nextDeadline, at);
    soft.advance(4_999_999);
    assert.equal(serve(soft), -1);
    soft.advance(1);
    assert.equal(serve(soft), VECTOR);
    assert.equal(vcpu.readMsr(0x6e0), 0);
    vcpu.writeMsr(0x6e0, 1, 0);
    soft.advance(0);
    assert.equal(serve(soft), VECTOR);
    vcpu.writeMsr(0x6e0, 0, 0);
    assert.equal(vcpu.nextDeadline, Number.POSITIVE_INFINITY);
  });

  test("leaving deadline mode forgets the deadline", () => {
    const soft = machine(TimerMode.TSC_DEADLINE);
    soft.vcpus[0]!.writeMsr(0x6e0, 0, 1);
    write(soft, Reg.LVT_TIMER, TimerMode.ONE_SHOT | VECTOR);
    assert.equal(soft.vcpus[0]!.nextDeadline, Number.POSITIVE_INFINITY);
    write(soft, Reg.LVT_TIMER, TimerMode.TSC_DEADLINE | VECTOR);
    assert.equal(soft.vcpus[0]!.readMsr(0x6e0), 0);
  });

  test("a masked timer runs on and says nothing", () => {
    const soft = machine(TimerMode.PERIODIC | 0x10000);
    write(soft, Reg.TIMER_INITIAL, 1_000_000);
    soft.advance(10_000_000);
    assert.equal(serve(soft), -1);
    write(soft, Reg.LVT_TIMER, TimerMode.PERIODIC | VECTOR);
    soft.advance(1_000_000);
    assert.equal(serve(soft), VECTOR);
  });
});

const PIT = 0x40;
const COMMAND = 0x43;

/** The 8259As initialized and open, the 8254's channel 0 in a mode with a count. */
function pitMachine(mode: number, count: number): SoftMachine {
  const soft = new SoftMachine(1, { pit: true });
  for (const [port, value] of [
    [0x20, 0x11],
    [0x21, 0x20],
    [0x21, 4],
    [0x21, 1],
    [0x21, 0],
  ] as const)
    out(soft, port, value);
  program(soft, 0, mode, count);
  return soft;
}
function out(soft: SoftMachine, port: number, value: number): void {
  soft.vcpus[0]!.writePort(port, 1, value);
}
function input(soft: SoftMachine, port: number): number {
  return soft.vcpus[0]!.readPort(port, 1);
}
function program(soft: SoftMachine, channel: number, mode: number, count: number, bcd = 0): void {
  out(soft, COMMAND, (channel << 6) | 0x30 | (mode << 1) | bcd);
  out(soft, PIT + channel, count & 0xff);
  out(soft, PIT + channel, count >> 8);
}
function count(soft: SoftMachine, channel: number): number {
  out(soft, COMMAND, channel << 6);
  return input(soft, PIT + channel) | (input(soft, PIT + channel) << 8);
}
/** Nanoseconds of so many of its ticks, and a little. */
function ticks(n: number): number {
  return Math.ceil((n * 1e9) / PIT_HZ);
}
/** Takes the timer's interrupt and ends it. */
function tick(soft: SoftMachine): boolean {
  if (!soft.vcpus[0]!.hasInterrupt()) return false;
  assert.equal(soft.vcpus[0]!.acknowledge(), 0x20);
  out(soft, 0x20, 0x20);
  return true;
}

describe("8254", () => {
  test("mode 2 ticks at its rate for ever", () => {
    const soft = pitMachine(2, 1193);
    let seen = 0;
    for (let ms = 0; ms < 1000; ms++) {
      soft.advance(1_000_000);
      while (tick(soft)) seen++;
    }
    assert.ok(seen >= 999 && seen <= 1001, `${seen} ticks in a second`);
  });

  test("modes 0 and 4 tick once, mode 5 not at all", () => {
    for (const [mode, expected] of [
      [0, 1],
      [4, 1],
      [5, 0],
    ] as const) {
      const soft = pitMachine(mode, 1193);
      let seen = 0;
      for (let ms = 0; ms < 100; ms++) {
        soft.advance(1_000_000);
        while (tick(soft)) seen++;
      }
      assert.equal(seen, expected, `mode ${mode}`);
    }
  });

  test("ticks that the guest was too late for follow its acknowledgements", () => {
    const soft = pitMachine(2, 1193);
    soft.advance(10_500_000);
    let seen = 0;
    while (tick(soft)) seen++;
    assert.equal(seen, 10);
    assert.equal(tick(soft), false);
  });

  test("without reinjection they are lost", () => {
    const soft = pitMachine(2, 1193);
    soft.controller.setPitReinject(false);
    soft.advance(10_500_000);
    let seen = 0;
    while (tick(soft)) seen++;
    assert.equal(seen, 1);
  });

  test("what is made up for has a bound, and unmasking forgets it", () => {
    const soft = pitMachine(2, 1193);
    soft.advance(3_000_000_000);
    let seen = 0;
    while (tick(soft)) seen++;
    assert.equal(seen, 1000);
    soft.advance(100_000_000);
    out(soft, 0x21, 1);
    out(soft, 0x21, 0);
    seen = 0;
    while (tick(soft)) seen++;
    assert.equal(seen, 1);
  });

  test("two threads that notice the same deadline tick once", () => {
    const soft = pitMachine(0, 1193);
    soft.nowNs += 2_000_000;
    soft.controller.expire(soft.nowNs);
    soft.controller.expire(soft.nowNs);
    assert.equal(tick(soft), true);
    assert.equal(tick(soft), false);
  });

  test("counters as programs read them, in each mode", () => {
    const soft = new SoftMachine(1, { pit: true, speaker: true });
    for (const [mode, after, expected] of [
      [0, 300, 700],
      [0, 1300, 65536 - 300],
      [1, 300, 700],
      [2, 300, 700],
      [2, 1300, 700],
      [3, 300, 400],
      [3, 700, 600],
      [4, 300, 700],
      [5, 300, 700],
    ] as const) {
      program(soft, 2, mode, 1000);
      soft.advance(ticks(after));
      assert.equal(count(soft, 2), expected, `mode ${mode} after ${after}`);
    }
  });

  test("BCD", () => {
    const soft = new SoftMachine(1, { pit: true });
    program(soft, 2, 2, 0x1000, 1);
    soft.advance(ticks(1));
    assert.equal(count(soft, 2), 0x0999);
    soft.advance(ticks(998));
    assert.equal(count(soft, 2), 0x0001);
    program(soft, 2, 0, 0, 1);
    soft.advance(ticks(1));
    assert.equal(count(soft, 2), 0x9999);
  });

  test("a latched count holds until it is read, whatever happens meanwhile", () => {
    const soft = new SoftMachine(1, { pit: true });
    program(soft, 2, 2, 1000);
    soft.advance(ticks(100));
    out(soft, COMMAND, 0x80);
    soft.advance(ticks(100));
    out(soft, COMMAND, 0x80);
    assert.equal(input(soft, PIT + 2) | (input(soft, PIT + 2) << 8), 900);
    assert.equal(count(soft, 2), 800);
  });

  test("read-back: status, with the output pin, then count", () => {
    const soft = new SoftMachine(1, { pit: true });
    program(soft, 2, 0, 1000);
    out(soft, COMMAND, 0xe8);
    assert.equal(input(soft, PIT + 2), 0x30);
    soft.advance(ticks(1001));
    out(soft, COMMAND, 0xc8);
    assert.equal(input(soft, PIT + 2), 0xb0);
    assert.equal(input(soft, PIT + 2) | (input(soft, PIT + 2) << 8), 65535);
  });

  test("port 0x61: gate, speaker bit, output of channel 2 and the refresh toggle", () => {
    const soft = new SoftMachine(1, { pit: true, speaker: true });
    out(soft, 0x61, 0);
    program(soft, 2, 1, 1000);
    soft.advance(ticks(2000));
    assert.equal(input(soft, 0x61) & 0x23, 0, "ran out");
    out(soft, 0x61, 1);
    assert.equal(input(soft, 0x61) & 0x23, 0x21, "the gate's edge started it");
    soft.advance(ticks(1001));
    assert.equal(input(soft, 0x61) & 0x23, 0x01);
    out(soft, 0x61, 3);
    assert.equal(input(soft, 0x61) & 0x03, 0x03);
    const before = input(soft, 0x61) & 0x10;
    soft.advance(2 ** 14);
    assert.equal((input(soft, 0x61) & 0x10) ^ before, 0x10);
  });

  test("port 0x61 is the monitor's unless it was asked for", () => {
    const soft = new SoftMachine(1, { pit: true });
    assert.equal(soft.vcpus[0]!.readPort(0x61, 1), -1);
    assert.equal(soft.vcpus[0]!.writePort(0x61, 1, 0), false);
  });

  test("saved and set again, it ticks on", () => {
    const soft = pitMachine(2, 1193);
    const other = pitMachine(4, 9);
    other.controller.setPit(soft.controller.getPit());
    other.advance(1_100_000);
    assert.equal(tick(other), true);
  });
});
