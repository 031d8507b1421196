/** IOAPIC, 8259As, irqfds and local APICs together, from the specifications, and under hostile use. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Irqchip, KvmError } from "@lodge/kvm";
import { IrqSource } from "./interrupt-controller.ts";
import { DeliveryMode, Reg } from "./lapic-registers.ts";
import { pick, seeded } from "./testing/random.ts";
import { SoftMachine } from "./testing/soft-machine.ts";
import { VcpuInterrupts } from "./vcpu-interrupts.ts";

const APIC = 0xfee00000;
const IOAPIC = 0xfec00000;
const LEVEL = 1 << 15;
const MASKED = 1 << 16;

function store(soft: SoftMachine, offset: number, value: number, cpu = 0): void {
  soft.vcpus[cpu]!.writeMmio(APIC + offset, 4, value >>> 0);
}
function entry(soft: SoftMachine, pin: number, low: number, destination = 0): void {
  for (const [index, value] of [
    [0x11 + 2 * pin, destination << 24],
    [0x10 + 2 * pin, low],
  ] as const) {
    soft.vcpus[0]!.writeMmio(IOAPIC, 4, index);
    soft.vcpus[0]!.writeMmio(IOAPIC + 0x10, 4, value >>> 0);
  }
}
/** All processors' APICs on, LINT0 masked. */
function machine(processors = 1, options: ConstructorParameters<typeof SoftMachine>[1] = {}): SoftMachine {
  const soft = new SoftMachine(processors, options);
  for (let cpu = 0; cpu < processors; cpu++) {
    store(soft, Reg.SVR, 0x1ff, cpu);
    store(soft, Reg.LVT_LINT0, MASKED, cpu);
  }
  soft.woken.clear();
  return soft;
}
function out(soft: SoftMachine, ...writes: [port: number, value: number][]): void {
  for (const [port, value] of writes) soft.vcpus[0]!.writePort(port, 1, value);
}

describe("IOAPIC", () => {
  test("a level is delivered again after each EOI while it is high", () => {
    const soft = machine();
    entry(soft, 10, 0x50 | LEVEL);
    assert.equal(soft.controller.setIrqLine(10, true), 2);
    for (let round = 0; round < 3; round++) {
      assert.equal(soft.vcpus[0]!.acknowledge(), 0x50);
      assert.equal(soft.vcpus[0]!.acknowledge(), -1, "remote IRR holds it back");
      store(soft, Reg.EOI, 0);
    }
    soft.controller.setIrqLine(10, false);
    assert.equal(soft.vcpus[0]!.acknowledge(), 0x50);
    store(soft, Reg.EOI, 0);
    assert.equal(soft.vcpus[0]!.acknowledge(), -1);
  });

  test("an edge is delivered once; a masked one waits for the next edge only", () => {
    const soft = machine();
    entry(soft, 3, 0x60 | MASKED);
    // The 8259A takes it too, and is not masked.
    assert.equal(soft.controller.setIrqLine(3, true), 1);
    soft.controller.setIrqLine(3, false);
    entry(soft, 3, 0x60);
    assert.equal(soft.vcpus[0]!.acknowledge(), -1);
    soft.controller.setIrqLine(3, true);
    assert.equal(soft.vcpus[0]!.acknowledge(), 0x60);
  });

  test("an end is heard of where a pin sends its vector as a level, or did when it began", () => {
    for (const began of [false, true]) {
      const soft = machine();
      // An edge of the same vector that was raised while masked: who hears of the end delivers it.
      entry(soft, 2, 0x40 | MASKED);
      soft.controller.setIrqLine(2, true);
      entry(soft, 2, 0x40);
      const toNobody = () => entry(soft, 9, 0x40 | LEVEL | (1 << 11));
      if (!began) toNobody();
      soft.controller.signalMsi({ addressLo: APIC, addressHi: 0, data: 0x40 | LEVEL });
      assert.equal(soft.vcpus[0]!.acknowledge(), 0x40);
      if (began) toNobody();
      if (began) store(soft, Reg.LDR, 1 << 24);
      store(soft, Reg.EOI, 0);
      assert.equal(soft.vcpus[0]!.hasInterrupt(), began);
      assert.equal(soft.controller.getIoapic().irr, began ? 0 : 1 << 2);
    }
  });

  test("a level held by two sources falls when both have let go", () => {
    const soft = machine();
    entry(soft, 10, 0x50 | LEVEL);
    soft.controller.setIrqLine(10, true);
    soft.controller.setIrqLine(10, true, IrqSource.RESAMPLE);
    soft.controller.setIrqLine(10, false);
    assert.equal(soft.controller.getIoapic().irr, 1 << 10);
    soft.controller.setIrqLine(10, false, IrqSource.RESAMPLE);
    assert.equal(soft.controller.getIoapic().irr, 0);
  });

  test("irqfd with resampling: the EOI lowers the line and tells", () => {
    const soft = machine();
    entry(soft, 10, 0x50 | LEVEL);
    soft.controller.setResample(10, true);
    soft.controller.signalIrqfd(10, true);
    assert.equal(soft.vcpus[0]!.acknowledge(), 0x50);
    assert.deepEqual(soft.resampled, []);
    store(soft, Reg.EOI, 0);
    assert.deepEqual(soft.resampled, [10]);
    assert.equal(soft.vcpus[0]!.acknowledge(), -1);
    assert.equal(soft.controller.getIoapic().irr, 0);
  });

  test("irqfd with resampling through the 8259As", () => {
    const soft = machine();
    store(soft, Reg.LVT_LINT0, DeliveryMode.EXTINT);
    out(
      soft,
      [0x20, 0x11],
      [0x21, 0x20],
      [0x21, 4],
      [0x21, 1],
      [0xa0, 0x11],
      [0xa1, 0x28],
      [0xa1, 2],
      [0xa1, 1],
      [0x4d1, 4],
    );
    soft.controller.setResample(10, true);
    soft.controller.signalIrqfd(10, true);
    assert.equal(soft.vcpus[0]!.acknowledge(), 0x2a);
    out(soft, [0xa0, 0x20], [0x20, 0x20]);
    assert.deepEqual(soft.resampled, [10]);
    assert.equal(soft.vcpus[0]!.hasInterrupt(), false);
  });

  test("the clock chip's tick is merged until its EOI", () => {
    const soft = machine();
    entry(soft, 8, 0x70);
    assert.equal(soft.controller.ioapic.setLine(8, IrqSource.USER, true), 1);
    soft.controller.ioapic.setLine(8, IrqSource.USER, false);
    assert.equal(soft.controller.ioapic.setLine(8, IrqSource.USER, true), 0);
    assert.equal(soft.vcpus[0]!.acknowledge(), 0x70);
    store(soft, Reg.EOI, 0);
    soft.controller.ioapic.setLine(8, IrqSource.USER, false);
    assert.equal(soft.controller.ioapic.setLine(8, IrqSource.USER, true), 1);
  });

  test("a level that storms is held back for a while", () => {
    const soft = machine();
    entry(soft, 10, 0x50 | LEVEL);
    soft.controller.setIrqLine(10, true);
    let rounds = 0;
    while (soft.vcpus[0]!.acknowledge() === 0x50) {
      store(soft, Reg.EOI, 0);
      rounds++;
    }
    assert.equal(rounds, 10_000);
    assert.equal(soft.vcpus[0]!.nextDeadline, soft.nowNs + 10_000_000);
    soft.advance(10_000_000);
    assert.equal(soft.vcpus[0]!.acknowledge(), 0x50);
  });

  test("split chip: the monitor hears of the end of its levels, and only of those", () => {
    const soft = machine(2, { split: 24 });
    const route = (gsi: number, data: number) => ({ gsi, type: "msi" as const, addressLo: APIC, addressHi: 0, data });
    soft.controller.setRouting([route(5, 0x50 | LEVEL), route(6, 0x61), route(30, 0x72 | LEVEL)]);
    for (const [gsi, vector, heard] of [
      [5, 0x50, true],
      [6, 0x61, false],
      [30, 0x72, false],
    ] as const) {
      assert.equal(soft.controller.setIrqLine(gsi, true), 1);
      assert.equal(soft.vcpus[0]!.acknowledge(), vector);
      store(soft, Reg.EOI, 0);
      assert.equal(soft.vcpus[0]!.takeIoapicEoi(), heard ? vector + 1 : 0);
    }
  });
});

test("split chip: the monitor's 8259As on LINT0", () => {
  const soft = machine(1, { split: 24 });
  const vcpu = soft.vcpus[0]!;
  assert.equal(vcpu.injectExternal(0x33), true);
  assert.equal(vcpu.injectExternal(0x34), false);
  assert.equal(vcpu.hasInterrupt(), false, "LINT0 is masked");
  store(soft, Reg.LVT_LINT0, DeliveryMode.EXTINT);
  assert.ok(soft.woken.has(0));
  assert.equal(vcpu.takesExternal, false);
  assert.equal(vcpu.acknowledge(), 0x33);
  assert.equal(vcpu.takesExternal, true);
});

describe("8259As", () => {
  /** Both initialized at vectors 0x20 and 0x28, all open. */
  function pics(icw4 = 1): SoftMachine {
    const soft = machine();
    store(soft, Reg.LVT_LINT0, DeliveryMode.EXTINT);
    out(soft, [0x20, 0x11], [0x21, 0x20], [0x21, 4], [0x21, icw4], [0xa0, 0x11], [0xa1, 0x28], [0xa1, 2], [0xa1, icw4]);
    return soft;
  }
  const raise = (soft: SoftMachine, ...gsis: number[]) => {
    for (const gsi of gsis) soft.controller.setIrqLine(gsi, true);
  };

  test("priorities, cascade, and specific ends", () => {
    const soft = pics();
    raise(soft, 7, 12, 1);
    assert.ok(soft.woken.has(0));
    assert.equal(soft.vcpus[0]!.acknowledge(), 0x21);
    assert.equal(soft.vcpus[0]!.hasInterrupt(), false, "pin 1 outranks the rest while it is served");
    out(soft, [0x20, 0x61]);
    assert.equal(soft.vcpus[0]!.acknowledge(), 0x2c);
    out(soft, [0xa0, 0x64], [0x20, 0x62]);
    assert.equal(soft.vcpus[0]!.acknowledge(), 0x27);
  });

  test("automatic end with rotation lets the next pin have its turn", () => {
    const soft = pics(3);
    out(soft, [0x20, 0x80]);
    raise(soft, 3);
    assert.equal(soft.vcpus[0]!.acknowledge(), 0x23);
    raise(soft, 1, 5);
    assert.equal(soft.vcpus[0]!.acknowledge(), 0x25, "after pin 3, pin 5 comes before pin 1");
    assert.equal(soft.vcpus[0]!.acknowledge(), 0x21);
  });

  test("a request that went away is pin 7", () => {
    const soft = pics();
    out(soft, [0x4d0, 0x20]);
    raise(soft, 5);
    soft.controller.setIrqLine(5, false);
    assert.equal(soft.controller.acknowledgePic(), 0x27);
    assert.equal(soft.controller.getPic(Irqchip.PIC_MASTER).isr, 0);
  });

  test("polling acknowledges", () => {
    const soft = pics();
    raise(soft, 4);
    out(soft, [0x20, 0x0c]);
    assert.equal(soft.vcpus[0]!.readPort(0x20, 1), 0x84);
    assert.equal(soft.vcpus[0]!.hasInterrupt(), false);
  });

  test("they reach a processor whose APIC is off, and one whose LINT0 says so, and no other", () => {
    const soft = pics();
    raise(soft, 1);
    assert.equal(soft.vcpus[0]!.hasInterrupt(), true);
    store(soft, Reg.LVT_LINT0, MASKED);
    assert.equal(soft.vcpus[0]!.hasInterrupt(), false);
    soft.vcpus[0]!.writeMsr(0x1b, 0xfee00100, 0);
    assert.equal(soft.vcpus[0]!.hasInterrupt(), true);
  });

  test("wider accesses read zeros and write nothing; accesses past the ports are the monitor's", () => {
    const soft = pics();
    assert.equal(soft.vcpus[0]!.readPort(0x20, 2), 0);
    assert.equal(soft.vcpus[0]!.readPort(0x21, 2), -1);
    assert.equal(soft.vcpus[0]!.writePort(0xa1, 4, 0), false);
    assert.equal(soft.vcpus[0]!.readPort(0x22, 1), -1);
    assert.equal(soft.vcpus[0]!.readPort(0x40, 1), -1, "there is no 8254");
  });
});

describe("local APIC", () => {
  test("the task priority holds back its class and those below; CR8 is its upper half", () => {
    const soft = machine();
    const vcpu = soft.vcpus[0]!;
    for (const vector of [0x4f, 0x50, 0x5f, 0x60]) {
      vcpu.cr8 = 5;
      soft.controller.signalMsi({ addressLo: APIC, addressHi: 0, data: vector });
      assert.equal(vcpu.hasInterrupt(), vector >= 0x60, vector.toString(16));
      soft.woken.clear();
      vcpu.cr8 = 0;
      assert.ok(soft.woken.has(0), "lowering it lets the interrupt in");
      assert.equal(vcpu.acknowledge(), vector);
      store(soft, Reg.EOI, 0);
    }
    vcpu.cr8 = 9;
    assert.equal(vcpu.readMmio(APIC + Reg.TPR, 4), 0x90);
    assert.equal(vcpu.cr8, 9);
  });

  test("an interrupt of a higher class nests, one of the same waits", () => {
    const soft = machine();
    const vcpu = soft.vcpus[0]!;
    const raise = (vector: number) => soft.controller.signalMsi({ addressLo: APIC, addressHi: 0, data: vector });
    raise(0x51);
    assert.equal(vcpu.acknowledge(), 0x51);
    raise(0x5e);
    assert.equal(vcpu.acknowledge(), -1);
    raise(0x61);
    assert.equal(vcpu.acknowledge(), 0x61);
    store(soft, Reg.EOI, 0);
    assert.equal(vcpu.acknowledge(), -1);
    store(soft, Reg.EOI, 0);
    assert.equal(vcpu.acknowledge(), 0x5e);
  });

  test("paravirtual IPIs: by id from a first one", () => {
    const soft = machine(4);
    assert.equal(soft.controller.sendIpis(0b101n, 1, 0x45), 2);
    assert.deepEqual([...soft.woken].sort(), [1, 3]);
    assert.deepEqual(
      soft.vcpus.map((vcpu) => vcpu.acknowledge()),
      [-1, 0x45, -1, 0x45],
    );
    assert.equal(soft.controller.sendIpis(1n, 1000, 0x45), 0);
  });

  test("paravirtual end of interrupt", () => {
    const soft = machine();
    const memory = new Uint8Array(64);
    const vcpu = new VcpuInterrupts(
      soft.controller,
      0,
      { nowNs: () => 0, tscToNs: Number },
      {
        readByte: (gpa) => memory[gpa] ?? -1,
        writeByte: (gpa, value) => {
          if (gpa >= memory.length) return false;
          memory[gpa] = value;
          return true;
        },
      },
    );
    const raise = (vector: number) => soft.controller.signalMsi({ addressLo: APIC, addressHi: 0, data: vector });
    assert.equal(vcpu.writeMsr(0x4b564d04, 3, 0), false, "not at a multiple of 4");
    assert.equal(vcpu.writeMsr(0x4b564d04, 0x1001, 0), false, "no memory there");
    assert.equal(vcpu.writeMsr(0x4b564d04, 0x11, 0), true);
    assert.equal(vcpu.readMsr(0x4b564d04), 0x11);

    raise(0x51);
    assert.equal(vcpu.acknowledge(), 0x51);
    assert.equal(memory[0x10], 1, "offered");
    memory[0x10] = 0;
    raise(0x52);
    assert.equal(vcpu.acknowledge(), 0x52, "the guest had ended the one before");
    assert.equal(memory[0x10], 1);
    raise(0x53);
    assert.equal(vcpu.hasInterrupt(), false);
    assert.equal(memory[0x10], 0, "taken back, as another one waits");
    vcpu.writeMmio(APIC + Reg.EOI, 4, 0);
    assert.equal(vcpu.acknowledge(), 0x53);
    entry(soft, 5, 0x60 | LEVEL);
    vcpu.writeMmio(APIC + Reg.EOI, 4, 0);
    memory[0x10] = 0;
    soft.controller.setIrqLine(5, true);
    assert.equal(vcpu.acknowledge(), 0x60);
    assert.equal(memory[0x10], 0, "the IOAPIC has to hear of this one");
  });
});

describe("hostile use", () => {
  test("no access throws, leaves 32 bits, or lets an interrupt past the priority", () => {
    const random = seeded();
    for (let round = 0; round < 200; round++) {
      const soft = machine(3, { pit: true, speaker: true, ...(random(4) === 0 ? { split: 24 } : {}) });
      for (let step = 0; step < 300; step++) {
        const vcpu = pick(random, soft.vcpus);
        const value = pick(random, [random(2 ** 32), random(256), 0, 0xffffffff]);
        const size = pick(random, [1, 2, 4, 8]);
        switch (random(10)) {
          case 0:
            vcpu.writeMmio(vcpu.apic.baseAddress + random(0x1000), 4, value);
            break;
          case 1:
            vcpu.writeMmio(vcpu.apic.baseAddress + 16 * random(0x40), size, value);
            break;
          case 2:
            vcpu.writeMmio(IOAPIC + random(0x100), size, value);
            break;
          case 3:
            vcpu.writePort(
              pick(random, [0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1, 0x40, 0x41, 0x42, 0x43, 0x61]),
              size,
              value,
            );
            break;
          case 4:
            vcpu.writeMsr(
              pick(random, [0x1b, 0x6e0, 0x4b564d04, 0x800 + random(0x100)]),
              value,
              random(2) * random(2 ** 32),
            );
            break;
          case 5:
            vcpu.readMsr(pick(random, [0x1b, 0x6e0, 0x4b564d04, 0x800 + random(0x100)]));
            break;
          case 6: {
            const read = pick(random, [
              () => vcpu.readMmio(vcpu.apic.baseAddress + random(0x1000), size),
              () => vcpu.readMmio(IOAPIC + random(0x100), size),
              () => vcpu.readPort(pick(random, [0x20, 0x21, 0x4d0, 0x40, 0x42, 0x43, 0x61]), size),
            ])();
            assert.ok(read >= -1 && read < 2 ** 32 && Number.isInteger(read), `LODGE_SEED=${random.seed}: ${read}`);
            break;
          }
          case 7:
            soft.controller.setIrqLine(random(30), random(2) === 0);
            soft.controller.signalMsi({
              addressLo: random(2 ** 32),
              addressHi: random(2 ** 32),
              data: random(2 ** 32),
            });
            break;
          case 8:
            soft.advance(random(2_000_000));
            break;
          default:
            serveChecked(vcpu, `LODGE_SEED=${random.seed}`);
        }
        vcpu.takeInit();
      }
    }
  });

  /** What is taken outranks what was served and the task priority. */
  function serveChecked(vcpu: VcpuInterrupts, seed: string): void {
    if (!vcpu.hasInterrupt()) return;
    const wanted = vcpu.apic.pendingVector();
    const floor = vcpu.apic.updatePriority();
    const vector = vcpu.acknowledge();
    assert.ok(vector >= 0 && vector < 256, seed);
    if (vector !== wanted) return;
    assert.ok((vector & 0xf0) > (floor & 0xf0) || (vector & 0xf0) > floor, seed);
    assert.equal(vcpu.apic.test(Reg.ISR, vector), true, seed);
  }

  test("states with any bytes are taken", () => {
    const random = seeded();
    for (let round = 0; round < 300; round++) {
      const soft = machine(2, { pit: true });
      const page = Uint8Array.from({ length: 1024 }, () => random(256));
      soft.vcpus[0]!.setLapic(page);
      const pit = soft.controller.getPit();
      const byte = () => random(256);
      for (const channel of pit.channels) {
        for (const field of Object.keys(channel) as (keyof typeof channel)[]) {
          if (field !== "countLoadTime") channel[field] = byte();
        }
        channel.count = random(2 ** 32);
        channel.countLoadTime = BigInt(random(2 ** 32)) << 31n;
      }
      soft.controller.setPit({ ...pit, flags: byte() });
      for (const port of [0x40, 0x41, 0x42, 0x43]) soft.vcpus[0]!.readPort(port, 1);
      soft.advance(1_000_000);
      soft.vcpus[0]!.acknowledge();
      soft.vcpus[0]!.getLapic();
    }
  });

  test("routes that cannot be are refused whole, with the reason", () => {
    const soft = machine();
    const chip = (gsi: number, irqchip: Irqchip, pin: number) => ({ gsi, type: "irqchip" as const, irqchip, pin });
    const refused = (routes: Parameters<typeof soft.controller.setRouting>[0], message: RegExp) => {
      assert.throws(
        () => soft.controller.setRouting(routes),
        (error) => error instanceof KvmError && error.code === "KVM_INVALID" && message.test(error.message),
      );
    };
    refused([chip(4096, Irqchip.IOAPIC, 1)], /GSI 4096/);
    refused([chip(1, Irqchip.IOAPIC, 24)], /pin 24/);
    refused([chip(1, Irqchip.PIC_SLAVE, 8)], /pin 8/);
    refused([chip(1, Irqchip.IOAPIC, 1), chip(1, Irqchip.IOAPIC, 2)], /already/);
    refused(
      [chip(1, Irqchip.IOAPIC, 1), { gsi: 1, type: "msi", addressLo: APIC, addressHi: 0, data: 0x40 }],
      /one message/,
    );
    entry(soft, 5, 0x50);
    soft.controller.setIrqLine(5, true);
    assert.equal(soft.vcpus[0]!.acknowledge(), 0x50, "the table before is in force");
  });

  test("more processors than there is room for get no slot", () => {
    const soft = machine(2);
    assert.equal(soft.controller.addApic(7), -1);
  });
});
