/** FXSAVE, XSAVE and their likes in ring 3, on the processor behind /dev/kvm and here; KVM's records of that state. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { XSAVE_SIZE } from "@lodge/kvm";
import { BesideKvm, differences, noKvm } from "../../testing/beside-kvm.ts";
import { oracle } from "../../testing/oracles.ts";
import { Random } from "../../testing/random.ts";
import { MEMORY, type Scenario, scenario } from "../../testing/scenario.ts";
import { notIntel } from "../../testing/vendor.ts";
import { Image } from "./fpu-image.ts";
import { getFpu, getXsave, setFpu, setXcrs, setXsave } from "./fpu-records.ts";

const seed = Number(process.env.LODGE_SEED ?? Date.now() % 1_000_000_000);
const AREA = 0xe000;
const OSXSAVE = 1n << 18n;
/** Behind the HLT of the handlers of #UD and #GP. */
const UNDEFINED = 0x2019n;
const PROTECTION = 0x2035n;

/** On [AREA]; in 64-bit mode with REX.W where `wide`. */
const INSTRUCTIONS: Record<string, readonly number[]> = {
  fxsave: [0x0f, 0xae, 0x04, 0x25],
  fxrstor: [0x0f, 0xae, 0x0c, 0x25],
  xsave: [0x0f, 0xae, 0x24, 0x25],
  xrstor: [0x0f, 0xae, 0x2c, 0x25],
  xsaveopt: [0x0f, 0xae, 0x34, 0x25],
  xsavec: [0x0f, 0xc7, 0x24, 0x25],
  stmxcsr: [0x0f, 0xae, 0x1c, 0x25],
  ldmxcsr: [0x0f, 0xae, 0x14, 0x25],
};

/** An XSAVE area with some components at random and others in their initial configuration. */
function randomArea(random: Random, loaded: "by KVM" | "by the guest"): Uint8Array {
  const area = new Uint8Array(XSAVE_SIZE);
  const view = new DataView(area.buffer);
  const present = BigInt(random.below(8));
  if (present & 1n) {
    view.setUint16(Image.fcw, 0x37f & ~(random.below(64) & 0x3f), true);
    view.setUint16(Image.fsw, random.below(0x10000) & 0x7f7f & ~0xff, true);
    view.setUint8(Image.ftw, random.below(256));
    view.setUint16(Image.fop, random.below(0x800), true);
    view.setUint32(Image.fip, random.next(), true);
    view.setUint32(Image.fdp, random.next(), true);
    for (let index = 0; index < 8; index++) {
      view.setBigUint64(Image.st + index * 16, random.bits64(), true);
      view.setUint16(Image.st + index * 16 + 8, random.below(0x10000), true);
    }
  } else view.setUint16(Image.fcw, 0x37f, true);
  // Where SSE is in its initial configuration, hosts differ in whether KVM_SET_XSAVE takes MXCSR over: by AVX's bit, or never.
  const mxcsr =
    random.chance(0.5) || (loaded === "by KVM" && !(present & 2n)) ? 0x1f80 : 0x1f80 | (random.next() & 0x7f);
  view.setUint32(Image.mxcsr, mxcsr, true);
  for (let at = Image.xmm; present & 2n && at < Image.xmm + 256; at += 8) view.setBigUint64(at, random.bits64(), true);
  for (let at = Image.avx; present & 4n && at < Image.size; at += 8) view.setBigUint64(at, random.bits64(), true);
  view.setBigUint64(Image.xstateBv, present, true);
  return area;
}

/** A scenario in ring 3 of 64-bit mode with another instruction. */
function make(random: Random, name: string): Scenario {
  for (;;) {
    const { tssType, oddStacks } = oracle;
    const made = scenario(random, { mode: "long", tssType, oddStacks });
    if (made.state.sregs.cs.dpl !== 3) continue;
    const wide = random.chance(0.5) ? [0x48] : [];
    made.image.set([...wide, ...INSTRUCTIONS[name]!, AREA & 0xff, AREA >> 8, 0, 0, 0xf4], 0x1000);
    made.image.set(randomArea(random, "by the guest").subarray(0, Image.size), AREA);
    const view = new DataView(made.image.buffer);
    if (name === "xrstor" && random.chance(0.3)) {
      const components = BigInt(random.below(8));
      view.setBigUint64(AREA + Image.xcompBv, components | (1n << 63n), true);
    }
    // A bit of the header that no processor takes. The first three bytes of its words are components that the host may have
    // enabled for ring 3, whatever the guest's XCR0 says.
    const byte = 3 + random.below(21);
    if (random.chance(0.1) && (byte & 7) >= 3) view.setUint8(AREA + Image.xstateBv + byte, 1 << random.below(8));
    if (name === "ldmxcsr") view.setUint32(AREA, random.below(random.chance(0.2) ? 0x20000 : 0x10000), true);
    const { regs, sregs } = made.state;
    return {
      ...made,
      state: {
        regs: { ...regs, rax: BigInt(random.below(16)), rdx: 0n },
        sregs: { ...sregs, cr0: sregs.cr0 & ~0xcn, cr4: sregs.cr4 | OSXSAVE },
      },
    };
  }
}

for (const name of Object.keys(INSTRUCTIONS)) {
  // AMD's processors save no pointers of x87 where no exception is pending, and have a bit of MXCSR more (APM vol. 4).
  test(`${name} does what it does on KVM (seed ${seed})`, { skip: noKvm || notIntel }, () => {
    using both = new BesideKvm(MEMORY);
    const xcrs = { nrXcrs: 1, flags: 0, xcrs: Array.from({ length: 16 }, () => ({ xcr: 0, value: 7n })) };
    for (let index = 0; index < 150; index++) {
      const random = new Random(seed * 1_000_003 + index);
      const made = make(random, name);
      const area = randomArea(random, "by KVM");
      both.load(made.image, made.state);
      both.vcpu.setXcrs(xcrs);
      setXcrs(both.soft.cpu, xcrs);
      both.vcpu.setXsave(resized(area, both.vcpu.getXsave().length));
      setXsave(both.soft.cpu, area);
      const kvm = both.runKvm();
      const soft = both.runSoft();
      // What faults in ring 3 is looked at by the kernel's emulator, which knows none of these: #UD instead of #GP.
      if (kvm.regs.rip === UNDEFINED && soft.regs.rip === PROTECTION) continue;
      const message = `${name}, LODGE_SEED=${seed}, case ${index}`;
      const found = differences(kvm, soft, both.memory, both.soft.bytes);
      // The processor may call a component in use although it is in its initial configuration (SDM vol. 1, 13.6).
      const [theirBits, ourBits] = [both.memory, both.soft.bytes].map((bytes) => bytes[AREA + Image.xstateBv]!);
      if (name.startsWith("xsave") && theirBits !== ourBits && (ourBits! & ~theirBits!) === 0) continue;
      const theirs = found.filter((difference) => !oracle.tolerates(difference, made, kvm, soft));
      assert.deepEqual(theirs, [], message);
      const [ours, expected] = [parts(getXsave(both.soft.cpu)), parts(both.vcpu.getXsave())];
      // XSAVES, by which the kernel takes the state over, leaves an old MXCSR in place when SSE is initial (SDM vol. 1,
      // 13.11); with AVX in use the kernel shows that one.
      if (!expected.hasSse) ours.mxcsr = expected.mxcsr;
      assert.deepEqual({ ...ours, hasSse: expected.hasSse }, expected, message);
    }
  });
}

test("KVM's FPU records go in and come out", { skip: noKvm }, () => {
  using both = new BesideKvm(MEMORY);
  const random = new Random(seed);
  for (let index = 0; index < 50; index++) {
    const area = randomArea(random, "by KVM");
    // KVM_GET_FPU tells what lies in the area, whether or not it counts.
    new DataView(area.buffer).setBigUint64(Image.xstateBv, 7n, true);
    both.vcpu.setXsave(resized(area, both.vcpu.getXsave().length));
    setXsave(both.soft.cpu, area);
    const fpu = both.vcpu.getFpu();
    assert.deepEqual(getFpu(both.soft.cpu), fpu);
    setXsave(both.soft.cpu, new Uint8Array(XSAVE_SIZE));
    setFpu(both.soft.cpu, fpu);
    assert.deepEqual(getFpu(both.soft.cpu), fpu);
  }
});

/** What the records must agree in; not in which components they call initial. */
function parts(image: Uint8Array) {
  const part = (from: number, to: number) => image.slice(from, to);
  return {
    hasSse: (image[Image.xstateBv]! & 2) !== 0,
    x87: part(0, Image.mxcsr),
    mxcsr: part(Image.mxcsr, Image.mxcsrMask),
    st: part(Image.st, Image.xmm),
    xmm: part(Image.xmm, Image.xmm + 256),
    avx: part(Image.avx, Image.size),
  };
}

function resized(area: Uint8Array, length: number): Uint8Array {
  const larger = new Uint8Array(Math.max(length, area.length));
  larger.set(area);
  return larger;
}
