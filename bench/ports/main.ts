/**
 * What it costs a guest of the software processor to reach a register: 64-bit code in ring 0 that writes 0xcf8 and reads 0xcfc,
 * with the machine's PCI behind. Processor time of the thread, in a loop of its own.
 */

import { ExitReason, longMode } from "@lodge/kvm";
import { openSoft } from "@lodge/softkvm";
import { Bus } from "../../packages/machine/src/bus/bus.ts";
import { PciBus } from "../../packages/machine/src/pci/bus.ts";
import { ConfigSpace } from "../../packages/machine/src/pci/config-space.ts";
import { NearRegisters } from "../../packages/machine/src/vcpu/near-registers.ts";
import type { Stop } from "../../packages/machine/src/vcpu/step.ts";
import { median, type Results } from "../harness.ts";

const ROUNDS = 7;
const TURNS = 200_000;
const MEMORY_BYTES = 2 << 20;
const TABLES = 0x1000;
const CODE = 0x5000;
/** What ends a round. */
const STOP_PORT = 0xf4;
/** Vendor and device of the function that is asked. */
const IDENTITY = 0x12378086n;

const dword = (value: number) => [value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, value >>> 24];
const LOOP = [
  ...[0xb8, ...dword(0x80000000)], // mov $0x80000000, %eax
  ...[0x66, 0xba, 0xf8, 0x0c, 0xef], // mov $0xcf8, %dx; out %eax, %dx
  ...[0x66, 0xba, 0xfc, 0x0c, 0xed], // mov $0xcfc, %dx; in %dx, %eax
  ...[0xff, 0xc9], // dec %ecx
];
const GUEST = [
  ...[0xb9, ...dword(TURNS)], // mov $TURNS, %ecx
  ...[...LOOP, 0x75, -(LOOP.length + 2) & 0xff], // jnz
  ...[0xe6, STOP_PORT, 0xeb, 0xfe], // out %al, $STOP_PORT; jmp .
];

export default function run({ quick = false }: { quick?: boolean } = {}): Results {
  const soft = openSoft();
  const memory = soft.createMemory(MEMORY_BYTES);
  using vm = soft.createVm(memory);
  vm.createIrqchip();
  vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: MEMORY_BYTES, memoryOffset: 0 });
  const view = new DataView(memory.buffer);
  // Each level's first entry, and a page of 2 MiB.
  for (const [level, flags] of [3, 3, 0x83].entries()) {
    view.setUint32(TABLES + level * 4096, (level < 2 ? TABLES + (level + 1) * 4096 : 0) | flags, true);
  }
  new Uint8Array(memory.buffer).set(GUEST, CODE);
  using vcpu = vm.createVcpu(0);
  vcpu.setCpuid(soft.supportedCpuid());
  const near = new NearRegisters(machine(), new Float64Array(1));
  vcpu.attachDevices?.(near);

  const rounds: number[] = [];
  for (let round = 0; round <= (quick ? 1 : ROUNDS); round++) {
    vcpu.setSregs(longMode(vcpu.getSregs(), BigInt(TABLES)));
    vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(CODE), rsp: 0x8000n, rflags: 2n });
    const before = process.threadCpuUsage();
    const exit = vcpu.run();
    const { user, system } = process.threadCpuUsage(before);
    if (near.takeStop() === undefined || exit !== ExitReason.INTR) throw new Error(`the guest ended with exit ${exit}`);
    if ((vcpu.getRegs().rax & 0xffffffffn) !== IDENTITY) throw new Error("the guest read something else");
    // The first one compiles.
    if (round > 0) rounds.push(((user + system) * 1000) / (2 * TURNS));
  }
  return { against: "", comparisons: [], figures: [{ what: "a port's access", unit: "ns", value: median(rounds) }] };
}

function machine() {
  const ports = new Bus("ports");
  const memory = new Bus("memory");
  const identity = {
    vendor: 0x8086,
    device: 0x1237,
    revision: 2,
    classCode: 0x060000,
    subsystemVendor: 0,
    subsystem: 0,
  };
  const space = new ConfigSpace(
    ConfigSpace.create(),
    { identity, bars: [], interruptPin: false, capabilities: [] },
    true,
  );
  const nothing = { read: () => 0, write: () => {} };
  new PciBus(PciBus.create(), [{ slot: 0, space, bars: [] }], nothing).connect(ports, memory);
  let stop: Stop | undefined;
  const ends = {
    read: () => 0,
    write: () => {
      stop = { reason: "power-off" };
    },
  };
  ports.add(STOP_PORT, 1, ends);
  const takeRequest = () => {
    const taken = stop;
    stop = undefined;
    return taken;
  };
  return { ports, memory, takeRequest };
}
