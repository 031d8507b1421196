/** What one guest's code was made into, used by the next one: only where that has the same code. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ExitReason, flatProtectedMode, longMode } from "@lodge/kvm";
import { CODE_IMAGES } from "../interpreter/limits.ts";
import type { CodeStore, Engine } from "./code-store.ts";
import { openSoft } from "./open.ts";
import type { SoftVcpu } from "./vcpu.ts";

const MEMORY_BYTES = 2 ** 20;
/** In front of where the guest begins: what is here is not in the key. */
const CALLED = 0x3000;
const CALLER = 0x5000;
const STACK = 0x8000;
const MANY = 200_000;

const usual = { ...CODE_IMAGES };
const small = { fewestBlocks: 3, fewestNewBlocks: 1, fewestNewRegions: 1 };
before(() => {
  Object.assign(CODE_IMAGES, small);
});
after(() => {
  Object.assign(CODE_IMAGES, usual);
});

class Shelf implements CodeStore {
  readonly there: Map<string, Uint8Array>;
  constructor(there = new Map<string, Uint8Array>()) {
    this.there = there;
  }
  get(key: string): Uint8Array<ArrayBuffer> | undefined {
    const bytes = this.there.get(key);
    // As a file is read: a Buffer that begins anywhere in its memory.
    return bytes && Buffer.concat([Buffer.alloc(32), bytes]).subarray(32);
  }
  keep(key: string, bytes: Uint8Array): void {
    this.there.set(key, bytes.slice());
  }
  drop(key: string): void {
    this.there.delete(key);
  }
}

/** Makes nothing of its own. */
class Bench extends Shelf {
  readonly tag: number;
  loaded = 0;
  refused = 0;
  readonly engine: Engine = {
    save: (_module, [...functions]) => {
      assert.ok(functions.length > 0 && functions.every((each) => typeof each === "function"));
      return Uint8Array.of(this.tag);
    },
    load: ([tag], bytes) => {
      if (tag !== this.tag) {
        this.refused += 1;
        return undefined;
      }
      this.loaded += 1;
      return new WebAssembly.Module(bytes);
    },
  };

  constructor(tag: number, there = new Map<string, Uint8Array>()) {
    super(there);
    this.tag = tag;
  }
}

/** mov $value, %edx; add %edx, %eax; ret */
const adding = (value: number) => [0xba, value, 0, 0, 0, 0x01, 0xd0, 0xc3];

const dword = (value: number) => [value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, value >>> 24];

/**
 * xor %eax, %eax; 1: call CALLED; loop 1b; hlt; then the same again after movb $6, CALLED + 1. ECX says how often each;
 * between them the monitor sets it anew.
 */
const caller = (() => {
  const call = (at: number) => [0xe8, ...dword(CALLED - (at + 5))];
  const half = (at: number) => [0x31, 0xc0, ...call(at + 2), 0xe2, 0xf9, 0xf4];
  const first = half(CALLER);
  const patch = [0xc6, 0x05, ...dword(CALLED + 1), 6];
  return [...first, ...patch, ...half(CALLER + first.length + patch.length)];
})();

interface Ran {
  readonly first: bigint;
  readonly patched: bigint;
  readonly reuse: SoftVcpu["core"]["reuse"];
  /** What compiled code took when the first half had run. */
  readonly regionBytes: number;
}

/** A guest from its start to its end. */
function guest(codeStore: CodeStore | undefined, value: number, times: number): Ran {
  const soft = openSoft({ codeStore });
  const memory = soft.createMemory(MEMORY_BYTES);
  using vm = soft.createVm(memory);
  vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: MEMORY_BYTES, memoryOffset: 0 });
  const bytes = new Uint8Array(memory.buffer);
  bytes.set(caller, CALLER);
  bytes.set(adding(value), CALLED);
  using vcpu = vm.createVcpu(0) as SoftVcpu;
  vcpu.setSregs(flatProtectedMode(vcpu.getSregs()));
  const again = () => vcpu.setRegs({ ...vcpu.getRegs(), rcx: BigInt(times), rsp: BigInt(STACK) });
  vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(CALLER) });
  again();
  assert.equal(vcpu.run(), ExitReason.HLT);
  const first = vcpu.getRegs().rax;
  const { regionBytes } = vcpu.core.kept;
  again();
  assert.equal(vcpu.run(), ExitReason.HLT);
  return { first, patched: vcpu.getRegs().rax, reuse: vcpu.core.reuse, regionBytes };
}

test("the next guest with the same code has it compiled when it first comes by", () => {
  const shelf = new Shelf();
  const one = guest(shelf, 5, MANY);
  assert.deepEqual([one.first, one.patched, one.reuse], [BigInt(5 * MANY), BigInt(6 * MANY), undefined]);
  assert.equal(shelf.there.size, 1);
  const cold = guest(undefined, 5, 2);
  assert.equal(cold.regionBytes, 0);
  const two = guest(shelf, 5, 2);
  assert.deepEqual([two.first, two.patched], [10n, 12n]);
  assert.equal(two.reuse?.decoded, 0, "also what came of the patch was known");
  assert.ok(two.regionBytes > 0);
  assert.equal(shelf.there.size, 1);
});

test("what the engine has made of modules is there for the next guest, and made anew for another engine", () => {
  const first = new Bench(1);
  guest(first, 5, MANY);
  const [key] = first.there.keys();
  const image = first.there.get(key!);
  assert.equal(first.loaded, 0);
  const ran = guest(first, 5, MANY);
  assert.deepEqual([ran.first, ran.patched], [BigInt(5 * MANY), BigInt(6 * MANY)]);
  // A region of each half; handlers' modules are written when the guest ends, and no engine has seen them.
  assert.deepEqual([first.loaded, first.refused], [2, 0]);
  assert.equal(first.there.get(key!), image, "there was nothing new");

  const other = new Bench(2, first.there);
  const again = guest(other, 5, MANY);
  assert.deepEqual([again.first, again.patched], [BigInt(5 * MANY), BigInt(6 * MANY)]);
  assert.deepEqual([other.loaded, other.refused], [0, 2]);
  assert.notEqual(other.there.get(key!), image);
  const last = guest(other, 5, MANY);
  assert.equal(last.patched, BigInt(6 * MANY));
  assert.deepEqual([other.loaded, other.refused], [3, 2], "handlers, too");
});

test("code that is not what it was is decoded; what it becomes later may be known again", () => {
  const shelf = new Shelf();
  guest(shelf, 5, MANY);
  const other = guest(shelf, 7, MANY);
  assert.deepEqual([other.first, other.patched], [BigInt(7 * MANY), BigInt(6 * MANY)]);
  // What adds 7 is new; what adds 6 is from the first guest.
  assert.equal(other.reuse?.decoded, 1);
});

test("what was compiled in a later guest is there for those behind it", () => {
  const shelf = new Shelf();
  guest(shelf, 5, 2);
  const [[key, before]] = [...shelf.there] as [[string, Uint8Array]];
  assert.equal(guest(shelf, 5, 2).regionBytes, 0);
  assert.equal(shelf.there.get(key), before, "there was nothing new");
  guest(shelf, 5, MANY);
  const grown = shelf.there.get(key);
  assert.notEqual(grown, before);
  const { first, patched, reuse, regionBytes } = guest(shelf, 5, 2);
  assert.deepEqual([first, patched, reuse?.decoded], [10n, 12n, 0]);
  assert.ok(regionBytes > 0);
  assert.equal(shelf.there.get(key), grown);
});

test("what a later guest did not come to stays known", () => {
  const shelf = new Shelf();
  guest(shelf, 5, MANY);
  assert.equal(guest(shelf, 7, MANY).reuse?.decoded, 1);
  assert.equal(guest(shelf, 9, MANY).reuse?.decoded, 1);
  for (const value of [5, 7, 9]) {
    const { first, patched, reuse, regionBytes } = guest(shelf, value, 2);
    assert.deepEqual([first, patched, reuse?.decoded], [BigInt(2 * value), 12n, 0]);
    assert.ok(regionBytes > 0);
  }
});

test("an image grows so many times and no more", () => {
  CODE_IMAGES.generations = 2;
  const shelf = new Shelf();
  const images = [5, 7, 9, 11, 13].map((value) => {
    guest(shelf, value, 2);
    return [...shelf.there.values()].at(-1);
  });
  CODE_IMAGES.generations = usual.generations;
  assert.equal(new Set(images.slice(0, 3)).size, 3);
  assert.equal(new Set(images.slice(2)).size, 1);
});

test("an image that was of little use is made anew", () => {
  const shelf = new Shelf();
  guest(shelf, 5, MANY);
  const [[key, image]] = [...shelf.there] as [[string, Uint8Array]];
  // Its code is from elsewhere: nothing of it fits.
  const length = new DataView(image.buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(image.subarray(8, 8 + length)));
  const [offset, bytes] = header.parts.code;
  const at = Math.ceil((8 + length) / 8) * 8 + offset;
  image.fill(0x90, at, at + bytes);
  const { first, patched, reuse } = guest(shelf, 5, MANY);
  assert.deepEqual([first, patched], [BigInt(5 * MANY), BigInt(6 * MANY)]);
  assert.equal(reuse?.used, 0);
  assert.equal(shelf.there.has(key), false);
  guest(shelf, 5, MANY);
  assert.equal(shelf.there.has(key), true);
});

test("a guest at other addresses, with other features or with little code has its own, or none", () => {
  const shelf = new Shelf();
  CODE_IMAGES.fewestBlocks = 100;
  guest(shelf, 5, MANY);
  CODE_IMAGES.fewestBlocks = small.fewestBlocks;
  assert.equal(shelf.there.size, 0);
  guest(shelf, 5, MANY);
  const soft = openSoft({ codeStore: shelf });
  const memory = soft.createMemory(2 * MEMORY_BYTES);
  using vm = soft.createVm(memory);
  vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: 2 * MEMORY_BYTES, memoryOffset: 0 });
  new Uint8Array(memory.buffer).set(caller, CALLER);
  new Uint8Array(memory.buffer).set(adding(5), CALLED);
  using vcpu = vm.createVcpu(0) as SoftVcpu;
  vcpu.setSregs(flatProtectedMode(vcpu.getSregs()));
  vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(CALLER), rcx: 3n, rsp: BigInt(STACK) });
  assert.equal(vcpu.run(), ExitReason.HLT);
  assert.equal(vcpu.getRegs().rax, 15n);
  assert.equal(vcpu.core.reuse, undefined);
});

test("code that calls what is far in front of it may be compiled by the next guest only", () => {
  // As a kernel's modules call the kernel: CALLER is a GiB behind CALLED, and in memory as before.
  const gib = 2 ** 30;
  const [tables, entry] = [0x10000, 8];
  const present = 3;
  const large = 0x83;
  const shelf = new Shelf();
  const call = [0xe8, ...dword(CALLED - (gib + CALLER + 7))];
  for (const times of [2, MANY]) {
    const soft = openSoft({ codeStore: shelf });
    const memory = soft.createMemory(MEMORY_BYTES);
    using vm = soft.createVm(memory);
    vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: MEMORY_BYTES, memoryOffset: 0 });
    const [bytes, words] = [new Uint8Array(memory.buffer), new DataView(memory.buffer)];
    bytes.set([0x31, 0xc0, ...call, 0xe2, 0xf9, 0xf4], CALLER);
    bytes.set(adding(5), CALLED);
    words.setUint32(tables, (tables + 0x1000) | present, true);
    for (const index of [0, 1]) words.setUint32(tables + 0x1000 + index * entry, (tables + 0x2000) | present, true);
    words.setUint32(tables + 0x2000, large, true);
    using vcpu = vm.createVcpu(0) as SoftVcpu;
    vcpu.setCpuid(soft.supportedCpuid());
    vcpu.setSregs(longMode(vcpu.getSregs(), BigInt(tables)));
    vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(gib + CALLER), rcx: BigInt(times), rsp: BigInt(STACK) });
    assert.equal(vcpu.run(), ExitReason.HLT);
    assert.equal(vcpu.getRegs().rax, BigInt(5 * times));
    if (times === MANY) assert.equal(vcpu.core.reuse?.decoded, 0);
  }
});
