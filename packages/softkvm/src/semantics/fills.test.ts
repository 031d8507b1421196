/** REP STOS over several pages, here and on /dev/kvm: registers and memory afterwards. LODGE_SEED repeats a run. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { ExitReason, type Hypervisor, longMode, type Vcpu } from "@lodge/kvm";
import { openKvm } from "@lodge/kvm/linux";
import { noKvm } from "../../testing/beside-kvm.ts";
import { Random } from "../../testing/random.ts";
import { openSoft } from "../machine/open.ts";

const { LODGE_SEED } = process.env;
const seed = LODGE_SEED === undefined ? Date.now() % 1_000_000_000 : Number(LODGE_SEED);
const CASES = 400;

const MEMORY = 2 ** 20;
const [CODE, TABLES, DATA, DATA_END] = [0x1000, 0x8000, 0x10000, 0x20000];
/** By the element's size: REP STOS; HLT. */
const PROGRAMS = new Map([
  [1, [0xf3, 0xaa, 0xf4]],
  [2, [0xf3, 0x66, 0xab, 0xf4]],
  [4, [0xf3, 0xab, 0xf4]],
  [8, [0xf3, 0x48, 0xab, 0xf4]],
]);

function guest(hypervisor: Hypervisor, undo: DisposableStack): { vcpu: Vcpu; bytes: Uint8Array } {
  const memory = undo.use(hypervisor).createMemory(MEMORY);
  const bytes = new Uint8Array(memory.buffer, 0, MEMORY);
  const vm = undo.use(hypervisor.createVm(memory));
  vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: MEMORY, memoryOffset: 0 });
  const view = new DataView(memory.buffer);
  // The first 2 MiB where they are.
  view.setBigUint64(TABLES, BigInt(TABLES + 0x1000 + 7), true);
  view.setBigUint64(TABLES + 0x1000, BigInt(TABLES + 0x2000 + 7), true);
  view.setBigUint64(TABLES + 0x2000, 0x87n, true);
  for (const [size, code] of PROGRAMS) bytes.set(code, CODE + size * 16);
  const vcpu = undo.use(vm.createVcpu(0));
  vcpu.setCpuid(hypervisor.supportedCpuid());
  vcpu.setSregs(longMode(vcpu.getSregs(), BigInt(TABLES)));
  return { vcpu, bytes };
}

test(`REP STOS does what the processor does (seed ${seed})`, { skip: noKvm }, () => {
  using undo = new DisposableStack();
  const random = new Random(seed);
  const both = [guest(openSoft(), undo), guest(openKvm(), undo)];
  for (let index = 0; index < CASES; index++) {
    const size = random.pick([1, 2, 4, 8]);
    const down = random.below(4) === 0;
    const elements = random.below(random.pick([3, 100, 0x5000 / size]));
    const regs = {
      rip: BigInt(CODE + size * 16),
      rdi: BigInt(down ? DATA_END - 8 - random.below(0x2000) : DATA + random.below(0x3000)),
      rcx: BigInt(elements),
      rax: random.pick([0n, 0xa5n, 0x0123456789abcdefn, 0x0100n, 0xffff_ffff_0000_0000n]),
      rflags: down ? 0x402n : 2n,
    };
    const filler = random.below(256);
    const [soft, kvm] = both.map(({ vcpu, bytes }) => {
      bytes.fill(filler, DATA, DATA_END + 0x1000);
      vcpu.setRegs({ ...vcpu.getRegs(), ...regs });
      assert.equal(vcpu.run(), ExitReason.HLT);
      const { rip, rdi, rcx, rax, rflags } = vcpu.getRegs();
      return { rip, rdi, rcx, rax, rflags, memory: Buffer.from(bytes.slice(DATA - 0x5000, DATA_END + 0x1000)) };
    });
    const { memory, ...registers } = soft!;
    const { memory: theirs, ...expected } = kvm!;
    assert.deepEqual(registers, expected, `case ${index}`);
    const at = memory.findIndex((byte, place) => byte !== theirs[place]);
    assert.equal(
      at,
      -1,
      `case ${index}: ${size} bytes, ${JSON.stringify(regs, (_, value) => `${value}`)}, differs at ${at}`,
    );
  }
});
