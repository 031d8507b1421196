/** What goes beside the bits of the chips, against kvm.ko: start-up, NMIs, timers, the 8254, and split chips. */

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { describe, test } from "node:test";
import { MpState, type PitState } from "@lodge/kvm";
import { openKvm } from "@lodge/kvm/linux";
import { DeliveryMode, Lvt, Reg, TimerMode } from "./lapic-registers.ts";
import { apicFeatures, KernelMachine } from "./testing/kernel-machine.ts";
import type { Operation } from "./testing/operations.ts";
import { pick, seeded } from "./testing/random.ts";
import { SoftMachine } from "./testing/soft-machine.ts";

const APIC = 0xfee00000;
const skip = existsSync("/dev/kvm") ? false : "this host has no /dev/kvm to compare with";
const ROUNDS = process.env.LODGE_LONG ? 300 : 30;

const store = (offset: number, value: number): Operation => ({
  do: "store",
  address: APIC + offset,
  value: value >>> 0,
});
const send = (icr: number, destination: number): Operation[] => [
  store(Reg.ICR2, destination << 24),
  store(Reg.ICR, icr),
];

function machines(options: { pit?: boolean } = {}): { kernel: KernelMachine; soft: SoftMachine } & Disposable {
  const hypervisor = openKvm();
  const kernel = new KernelMachine(hypervisor, 2, options);
  const soft = new SoftMachine(2, { ...options, speaker: true, features: apicFeatures(hypervisor) });
  return {
    kernel,
    soft,
    [Symbol.dispose]: () => {
      kernel[Symbol.dispose]();
      hypervisor[Symbol.dispose]();
    },
  };
}

function registers(page: Uint8Array, left: readonly number[] = []): Record<string, number> {
  const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
  const entries = Array.from({ length: 64 }, (_, index) => [index * 16, view.getUint32(index * 16, true)] as const);
  return Object.fromEntries(
    entries.filter(([offset]) => !left.includes(offset)).map(([at, value]) => [at.toString(16), value]),
  );
}

describe("against kvm.ko", { skip }, () => {
  test("the register page of a new processor, and after INIT", () => {
    using both = machines();
    const { kernel, soft } = both;
    for (const cpu of [0, 1]) {
      assert.deepEqual(registers(soft.vcpus[cpu]!.getLapic()), registers(kernel.vcpus[cpu]!.getLapic()));
    }
    const dirty = [
      Reg.LDR,
      Reg.SVR,
      Reg.LVT_ERROR,
      Reg.TPR,
      Reg.IRR,
      Reg.ISR + 0x10,
      Reg.TMR,
      Reg.ICR,
      Reg.TIMER_DIVIDE,
    ];
    const before = dirty.map((offset): Operation => ({ do: "set", cpu: 1, offset, value: 0x01000111 }));
    const init = [...before, store(Reg.SVR, 0x1ff), ...send(0x4500, 1)];
    kernel.perform(init);
    soft.perform(init);
    assert.equal(kernel.vcpus[1]!.getMpState(), MpState.INIT_RECEIVED);
    const ours = soft.vcpus[1]!;
    assert.equal(ours.takeInit(), true);
    ours.reset(true);
    assert.deepEqual(registers(ours.getLapic()), registers(kernel.vcpus[1]!.getLapic()));
  });

  test("start-up: which sequences start a processor", () => {
    const [init, sipi] = [0x4500, 0x4600 | 0x12];
    for (const sequence of [
      [init],
      [sipi],
      [init, sipi],
      [sipi, init],
      [init, sipi, sipi],
      [0x8500, sipi],
      [0xc500, sipi],
    ]) {
      using both = machines();
      const { kernel, soft } = both;
      const operations = [store(Reg.SVR, 0x1ff), ...sequence.flatMap((icr) => send(icr, 1))];
      kernel.perform(operations);
      soft.perform(operations);
      // What a processor's loop makes of it.
      let state: MpState = MpState.UNINITIALIZED;
      if (soft.vcpus[1]!.takeInit()) state = MpState.INIT_RECEIVED;
      const page = soft.vcpus[1]!.takeSipi();
      if (page >= 0 && state === MpState.INIT_RECEIVED) state = MpState.RUNNABLE;
      assert.equal(kernel.vcpus[1]!.getMpState(), state, sequence.map((icr) => icr.toString(16)).join(" "));
      if (state !== MpState.RUNNABLE) continue;
      assert.equal(kernel.vcpus[1]!.getSregs().cs.base, BigInt(page << 12));
    }
  });

  test("NMIs by message and by ICR as they pile up", () => {
    using both = machines();
    const { kernel, soft } = both;
    const nmi = DeliveryMode.NMI | (1 << 14);
    const operations = [
      store(Reg.SVR, 0x1ff),
      ...send(nmi, 1),
      { do: "msi", address: APIC + (1 << 12), data: nmi } as Operation,
    ];
    kernel.perform(operations);
    soft.perform(operations);
    // The kernel keeps one pending, and injects one, when it looks; two came.
    assert.equal(soft.vcpus[1]!.takeNmis(), 2);
    assert.equal(kernel.vcpus[1]!.getEvents().nmi.pending > 0, true);
    soft.perform([...operations, ...operations, ...operations]);
    assert.equal(soft.vcpus[1]!.takeNmis(), 2);
  });

  test("a restored timer: which ones fire at once, and what is left of the others", () => {
    const cases = [
      { mode: TimerMode.ONE_SHOT, initial: 1_000_000_000, current: 0, fires: true },
      { mode: TimerMode.ONE_SHOT, initial: 1_000_000_000, current: 900_000_000, fires: false },
      { mode: TimerMode.ONE_SHOT, initial: 1_000_000_000, current: 2_000_000_000, fires: false },
      { mode: TimerMode.PERIODIC, initial: 1_000_000_000, current: 0, fires: false },
      { mode: TimerMode.PERIODIC, initial: 1_000_000_000, current: 500_000_000, fires: false },
      { mode: TimerMode.TSC_DEADLINE, initial: 1_000_000_000, current: 500_000_000, fires: false },
    ];
    for (const { mode, initial, current, fires } of cases) {
      using both = machines();
      const { kernel, soft } = both;
      const page = kernel.vcpus[0]!.getLapic();
      const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
      view.setUint32(Reg.SVR, 0x1ff, true);
      view.setUint32(Reg.LVT_TIMER, mode | 0x40, true);
      view.setUint32(Reg.TIMER_INITIAL, initial, true);
      view.setUint32(Reg.TIMER_CURRENT, current, true);
      view.setUint32(Reg.TIMER_DIVIDE, 0xb, true);
      kernel.vcpus[0]!.setLapic(page);
      soft.vcpus[0]!.setLapic(page);
      soft.advance(1000);
      const operations: Operation[] = [{ do: "load", address: APIC + Reg.IRR + 0x20 }];
      const name = JSON.stringify({ mode, initial, current });
      assert.equal(kernel.perform(operations).log[0], fires ? 1 : 0, name);
      assert.equal(soft.perform(operations).log[0], fires ? 1 : 0, name);
      const left = (bytes: Uint8Array) =>
        new DataView(bytes.buffer, bytes.byteOffset).getUint32(Reg.TIMER_CURRENT, true);
      const [theirs, ours] = [left(kernel.vcpus[0]!.getLapic()), left(soft.vcpus[0]!.getLapic())];
      // The kernel's clock runs meanwhile.
      assert.ok(Math.abs(theirs - ours) < 100_000_000, `${name}: ${ours}, not ${theirs}`);
      const rest = [Reg.TIMER_CURRENT, Reg.PPR];
      assert.deepEqual(registers(soft.vcpus[0]!.getLapic(), rest), registers(kernel.vcpus[0]!.getLapic(), rest), name);
    }
  });

  test("timer registers, whatever is written", () => {
    const random = seeded();
    for (let round = 0; round < ROUNDS; round++) {
      using both = machines();
      const { kernel, soft } = both;
      const operations = Array.from({ length: 40 }, (): Operation => {
        switch (random(5)) {
          case 0:
            return store(Reg.LVT_TIMER, random(2 ** 32) | Lvt.MASKED);
          case 1:
            return store(Reg.TIMER_INITIAL, random(3) === 0 ? 0 : 0x40000000 + random(2 ** 30));
          case 2:
            return store(Reg.TIMER_DIVIDE, random(16));
          case 3:
            return { do: "wrmsr", index: 0x6e0, low: random(2 ** 32), high: 0x7fffffff };
          default:
            return { do: "rdmsr", index: 0x6e0 };
        }
      });
      const all = [store(Reg.SVR, 0x1ff), ...operations];
      const [expected, actual] = [kernel.perform(all), soft.perform(all)];
      const seed = `LODGE_SEED=${random.seed}`;
      assert.deepEqual(actual.log, expected.log, seed);
      const rest = [Reg.TIMER_CURRENT, Reg.PPR];
      assert.deepEqual(registers(actual.lapics[0]!, rest), registers(expected.lapics[0]!, rest), seed);
    }
  });

  test("8254: what commands, latches and byte-wise accesses leave behind", () => {
    const random = seeded();
    for (let round = 0; round < ROUNDS; round++) {
      using both = machines({ pit: true });
      const { kernel, soft } = both;
      const operations = Array.from({ length: 40 }, (): Operation => {
        switch (random(6)) {
          case 0:
            return { do: "out", port: 0x43, value: random(256) };
          case 1:
            return { do: "out", port: 0x43, value: 0xc0 | random(64) };
          case 2:
            return { do: "in", port: 0x40 + random(4) };
          case 3:
            return { do: "out", port: 0x61, value: random(256) };
          default:
            return { do: "out", port: 0x40 + random(3), value: pick(random, [0, 0, random(256)]) };
        }
      });
      kernel.perform(operations);
      soft.perform(operations);
      const text = operations.map((one) => JSON.stringify(one)).join("\n");
      const outcome = [withoutTime(soft.controller.getPit()), withoutTime(kernel.vm.getPit())] as const;
      assert.deepEqual(outcome[0], outcome[1], `LODGE_SEED=${random.seed}\n${text}`);
      const state = kernel.vm.getPit();
      kernel.vm.setPit(state);
      soft.controller.setPit(state);
      assert.deepEqual(withoutTime(soft.controller.getPit()), withoutTime(kernel.vm.getPit()), "set again");
    }
  });

  test("8254: ticks that were missed are made up for, and no others", () => {
    using both = machines({ pit: true });
    const { kernel, soft } = both;
    const out = (port: number, value: number): Operation => ({ do: "out", port, value });
    const start = [out(0x20, 0x11), out(0x21, 0x20), out(0x21, 4), out(0x21, 1), out(0x21, 0xfe)];
    // Every 5 ms.
    const rate = [out(0x43, 0x34), out(0x40, 5966 & 0xff), out(0x40, 5966 >> 8)];
    const stop = [out(0x43, 0x3a), out(0x40, 0), out(0x40, 0)];
    const serve = Array.from({ length: 10 }, () => [{ do: "window" } as Operation, out(0x20, 0x20)]).flat();
    soft.perform([...start, ...rate]);
    soft.advance(102_000_000);
    assert.equal(soft.perform([...serve, ...serve, ...serve]).log.length, 20);

    // The kernel's clock runs on, and a thread of its own raises the line, so its guest serves for a while.
    const began = performance.now();
    kernel.perform([...start, ...rate]);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 102);
    const periods = () => (performance.now() - began) / 5;
    let taken = 0;
    // It catches up, however late that thread gets its turn; 20 ticks would be missing for ever if it did not.
    while (taken < periods() - 5 && periods() < 2000) taken += kernel.perform(serve).log.length;
    assert.ok(
      taken >= periods() - 6 && taken <= periods() + 1,
      `the kernel ticked ${taken} times in ${periods()} periods`,
    );
    kernel.perform(stop);
  });

  test("split chip: version, directed EOI, and what the monitor's IOAPIC hears", () => {
    using hypervisor = openKvm();
    using kernel = new KernelMachine(hypervisor, 2, { split: 24 });
    const soft = new SoftMachine(2, { split: 24, features: apicFeatures(hypervisor) });
    for (const cpu of [0, 1]) {
      assert.deepEqual(registers(soft.vcpus[cpu]!.getLapic()), registers(kernel.vcpus[cpu]!.getLapic()));
    }
  });
});

/** Counts that run, and the output pin, are another test's. */
function withoutTime(state: PitState): unknown {
  return {
    ...state,
    channels: state.channels.map((channel) => ({
      ...channel,
      latchedCount: channel.countLatched === 0 ? undefined : "some",
      status: channel.status & 0x7f,
      countLoadTime: undefined,
    })),
  };
}
