/** REP STOS and REP MOVS over several pages, here and on /dev/kvm: registers and memory afterwards. LODGE_SEED repeats a run. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { ExitReason, type Hypervisor, longMode, type Regs, type Vcpu } from "@lodge/kvm";
import { openKvm } from "@lodge/kvm/linux";
import { noKvm } from "../../testing/beside-kvm.ts";
import { Random } from "../../testing/random.ts";
import { openSoft } from "../machine/open.ts";

const { LODGE_SEED } = process.env;
const seed = LODGE_SEED === undefined ? Date.now() % 1_000_000_000 : Number(LODGE_SEED);
const CASES = 400;

const MEMORY = 2 ** 20;
const [CODE, TABLES, DATA, DATA_END] = [0x1000, 0x8000, 0x10000, 0x20000];
/** The same memory is seen once more from here on. */
const ALIAS = 2 ** 21;
/** By the element's size: REP and the instruction; HLT. */
const FILLS = new Map([
  [1, [0xf3, 0xaa, 0xf4]],
  [2, [0xf3, 0x66, 0xab, 0xf4]],
  [4, [0xf3, 0xab, 0xf4]],
  [8, [0xf3, 0x48, 0xab, 0xf4]],
]);
const COPIES = new Map(
  [...FILLS].map(([size, code]) => [size, code.map((byte) => (byte >> 4 === 0xa ? byte - 6 : byte))]),
);

function guest(
  hypervisor: Hypervisor,
  programs: ReadonlyMap<number, readonly number[]>,
  undo: DisposableStack,
): { vcpu: Vcpu; bytes: Uint8Array } {
  const memory = undo.use(hypervisor).createMemory(MEMORY);
  const bytes = new Uint8Array(memory.buffer, 0, MEMORY);
  const vm = undo.use(hypervisor.createVm(memory));
  vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: MEMORY, memoryOffset: 0 });
  const view = new DataView(memory.buffer);
  // The first 2 MiB where they are, and again behind them.
  view.setBigUint64(TABLES, BigInt(TABLES + 0x1000 + 7), true);
  view.setBigUint64(TABLES + 0x1000, BigInt(TABLES + 0x2000 + 7), true);
  for (const entry of [0, 8]) view.setBigUint64(TABLES + 0x2000 + entry, 0x87n, true);
  for (const [size, code] of programs) bytes.set(code, CODE + size * 16);
  const vcpu = undo.use(vm.createVcpu(0));
  vcpu.setCpuid(hypervisor.supportedCpuid());
  vcpu.setSregs(longMode(vcpu.getSregs(), BigInt(TABLES)));
  return { vcpu, bytes };
}

/** What both did, from the same memory. */
function compare(
  both: readonly ReturnType<typeof guest>[],
  size: number,
  regs: Partial<Regs>,
  fill: (bytes: Uint8Array) => void,
): void {
  const [soft, kvm] = both.map(({ vcpu, bytes }) => {
    fill(bytes.subarray(DATA, DATA_END + 0x1000));
    vcpu.setRegs({ ...vcpu.getRegs(), ...regs, rip: BigInt(CODE + size * 16) });
    assert.equal(vcpu.run(), ExitReason.HLT);
    const { rip, rsi, rdi, rcx, rax, rflags } = vcpu.getRegs();
    return { registers: { rip, rsi, rdi, rcx, rax, rflags }, memory: bytes.slice(DATA - 0x5000, DATA_END + 0x1000) };
  });
  const what = `${size} bytes, ${JSON.stringify(regs, (_, value) => (typeof value === "bigint" ? `0x${value.toString(16)}` : value))}`;
  assert.deepEqual(soft!.registers, kvm!.registers, what);
  const at = soft!.memory.findIndex((byte, place) => byte !== kvm!.memory[place]);
  assert.equal(at, -1, `${what}: memory differs at ${at}`);
}

test(`REP STOS does what the processor does (seed ${seed})`, { skip: noKvm }, () => {
  using undo = new DisposableStack();
  const random = new Random(seed);
  const both = [guest(openSoft(), FILLS, undo), guest(openKvm(), FILLS, undo)];
  for (let index = 0; index < CASES; index++) {
    const size = random.pick([1, 2, 4, 8]);
    const down = random.below(4) === 0;
    const filler = random.below(256);
    const regs = {
      rdi: BigInt(down ? DATA_END - 8 - random.below(0x2000) : DATA + random.below(0x3000)),
      rcx: BigInt(random.below(random.pick([3, 100, 0x5000 / size]))),
      rax: random.pick([0n, 0xa5n, 0x0123456789abcdefn, 0x0100n, 0xffff_ffff_0000_0000n]),
      rflags: down ? 0x402n : 2n,
    };
    compare(both, size, regs, (bytes) => bytes.fill(filler));
  }
});

test(`REP MOVS does what the processor does, also within what it copies (seed ${seed})`, { skip: noKvm }, () => {
  using undo = new DisposableStack();
  const random = new Random(seed);
  const both = [guest(openSoft(), COPIES, undo), guest(openKvm(), COPIES, undo)];
  const numbers = Uint32Array.from({ length: 0x11000 / 4 }, () => random.below(2 ** 32));
  for (let index = 0; index < CASES; index++) {
    const size = random.pick([1, 2, 4, 8]);
    const down = random.below(4) === 0;
    const from = (down ? DATA_END - 0x3000 : DATA + 0x3000) + random.below(0x2000);
    // Anywhere, or a little before or behind.
    const apart = random.below(2) === 0 ? random.below(0x6000) - 0x3000 : random.below(32) - 16;
    const view = () => (random.below(3) === 0 ? ALIAS : 0);
    const regs = {
      rsi: BigInt(from + view()),
      rdi: BigInt(from + apart + view()),
      rcx: BigInt(random.below(random.pick([3, 100, 0x5000 / size]))),
      rflags: down ? 0x402n : 2n,
    };
    compare(both, size, regs, (bytes) => bytes.set(new Uint8Array(numbers.buffer)));
  }
});
