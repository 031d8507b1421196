/** Devices that answer in the vCPU's thread: what the guest gets and how its run ends, beside the exits that there are without them. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { ExitReason, flatProtectedMode, longMode, type NearDevices } from "@lodge/kvm";
import { openSoft } from "./open.ts";
import type { SoftVcpu } from "./vcpu.ts";

const MEMORY_BYTES = 2 ** 20;
const CODE = 0x5000;
const TEXT = 0x6000;
/** Behind the memory. */
const REGISTERS = 0x200000;
const dword = (value: number) => [value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, value >>> 24];

interface Access {
  readonly kind: string;
  readonly address: number;
  readonly size: number;
  readonly value?: number;
}

/** Answers reads with what they are of, and remembers everything. */
class Devices implements NearDevices {
  readonly accesses: Access[] = [];
  wantStop = false;
  onAccess: () => void = () => {};
  readPort(address: number, size: number): number {
    return this.#read("in", address, size);
  }
  writePort(address: number, size: number, value: number): void {
    this.#note({ kind: "out", address, size, value });
  }
  readMemory(address: number, size: number): number {
    return this.#read("load", address, size);
  }
  writeMemory(address: number, size: number, value: number): void {
    this.#note({ kind: "store", address, size, value });
  }
  #read(kind: string, address: number, size: number): number {
    this.#note({ kind, address, size });
    return (0xa5b6c700 | (address & 0xff)) >>> 0;
  }
  #note(access: Access): void {
    this.accesses.push(access);
    this.onAccess();
  }
}

type Use = (vcpu: SoftVcpu, devices: Devices, memory: Uint8Array) => void;

function guest(code: readonly number[], use: Use): void {
  const soft = openSoft();
  const memory = soft.createMemory(MEMORY_BYTES);
  using vm = soft.createVm(memory);
  vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: MEMORY_BYTES, memoryOffset: 0 });
  const bytes = new Uint8Array(memory.buffer);
  bytes.set(code, CODE);
  using vcpu = vm.createVcpu(0) as SoftVcpu;
  vcpu.setSregs(flatProtectedMode(vcpu.getSregs()));
  vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(CODE), rsp: 0x8000n });
  const devices = new Devices();
  vcpu.attachDevices(devices);
  use(vcpu, devices, bytes);
}

/** The same in 64-bit code, whose ports are answered without leaving WebAssembly. */
function guest64(code: readonly number[], use: Use): void {
  guest(code, (vcpu, devices, memory) => {
    const tables = new DataView(memory.buffer);
    tables.setUint32(0x1000, 0x2003, true);
    tables.setUint32(0x2000, 0x3003, true);
    tables.setUint32(0x3000, 0x83, true);
    vcpu.setCpuid(openSoft().supportedCpuid());
    vcpu.setSregs(longMode(vcpu.getSregs(), 0x1000n));
    use(vcpu, devices, memory);
  });
}

test("ports and what is not memory are answered within the instruction", () => {
  const code = [
    ...[0xb8, ...dword(0x11223344), 0xe7, 0x80], // mov $0x11223344, %eax; out %eax, $0x80
    ...[0xe5, 0x84, 0x89, 0xc3], // in $0x84, %eax; mov %eax, %ebx
    ...[0xc6, 0x05, ...dword(REGISTERS + 1), 0x7f], // movb $0x7f, REGISTERS + 1
    ...[0x83, 0x0d, ...dword(REGISTERS + 8), 0x0f], // orl $0xf, REGISTERS + 8
    ...[0x0f, 0x6f, 0x05, ...dword(REGISTERS + 16)], // movq REGISTERS + 16, %mm0
    ...[0x0f, 0x7f, 0x05, ...dword(TEXT)], // movq %mm0, TEXT
    0xf4,
  ];
  guest(code, (vcpu, devices, memory) => {
    assert.equal(vcpu.run(), ExitReason.HLT);
    assert.equal(vcpu.getRegs().rbx, 0xa5b6c784n);
    assert.deepEqual(devices.accesses, [
      { kind: "out", address: 0x80, size: 4, value: 0x11223344 },
      { kind: "in", address: 0x84, size: 4 },
      { kind: "store", address: REGISTERS + 1, size: 1, value: 0x7f },
      { kind: "load", address: REGISTERS + 8, size: 4 },
      { kind: "store", address: REGISTERS + 8, size: 4, value: 0xa5b6c70f },
      { kind: "load", address: REGISTERS + 16, size: 4 },
      { kind: "load", address: REGISTERS + 20, size: 4 },
    ]);
    assert.deepEqual([...memory.subarray(TEXT, TEXT + 8)], [0x10, 0xc7, 0xb6, 0xa5, 0x14, 0xc7, 0xb6, 0xa5]);
  });
});

test("a row of elements on a port is one exit, as without devices", () => {
  // mov $5, %ecx; mov $TEXT, %esi; mov $0x3f8, %edx; rep outsb; hlt
  const code = [0xb9, ...dword(5), 0xbe, ...dword(TEXT), 0xba, ...dword(0x3f8), 0xf3, 0x6e, 0xf4];
  guest(code, (vcpu, devices, memory) => {
    memory.set(new TextEncoder().encode("lodge"), TEXT);
    assert.equal(vcpu.run(), ExitReason.IO);
    assert.deepEqual([vcpu.page.io.port, vcpu.page.io.count], [0x3f8, 5]);
    assert.equal(vcpu.run(), ExitReason.HLT);
    assert.deepEqual(devices.accesses, []);
  });
});

test("a device that wants the vCPU to stop has it stop behind the instruction, in the middle of compiled code, too", () => {
  // 1: inc %ebx; mov %ebx, REGISTERS; jmp 1b
  const code = [0x43, 0x89, 0x1d, ...dword(REGISTERS), 0xeb, 0xf7];
  guest(code, (vcpu, devices) => {
    const often = 300_000;
    devices.onAccess = () => {
      devices.wantStop = devices.accesses.length === often;
    };
    assert.equal(vcpu.run(), ExitReason.INTR);
    // It may do some more until it looks, but not until its budget ends.
    assert.ok(devices.accesses.length - often <= 1, `${devices.accesses.length - often} accesses later`);
    devices.wantStop = false;
    vcpu.page.immediateExit = true;
    const before = devices.accesses.length;
    assert.equal(vcpu.run(), ExitReason.INTR);
    assert.equal(devices.accesses.length, before);
    assert.equal(vcpu.getRegs().rbx, BigInt(devices.accesses.at(-1)!.value!));
  });
});

test("a device may do to the machine what a monitor may after an exit", () => {
  // in $0x80, %al; mov TEXT, %ebx; hlt
  const code = [0xe4, 0x80, 0x8b, 0x1d, ...dword(TEXT), 0xf4];
  guest(code, (vcpu, devices, memory) => {
    memory.set(dword(1), TEXT);
    memory.set(dword(2), TEXT + 0x10000);
    devices.onAccess = () => {
      // Waits until no vCPU uses what was there before, this one included.
      vcpu.vm.deleteMemorySlot(0);
      vcpu.vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: TEXT, memoryOffset: 0 });
      vcpu.vm.setMemorySlot({ slot: 1, guestAddress: TEXT, sizeBytes: 0x1000, memoryOffset: TEXT + 0x10000 });
    };
    assert.equal(vcpu.run(), ExitReason.HLT);
    assert.equal(vcpu.getRegs().rbx, 2n);
  });
});

test("what a device throws ends the run, and the guest is where it was", () => {
  guest([0xe6, 0x80, 0xf4], (vcpu, devices) => {
    devices.onAccess = () => {
      throw new Error("out of order");
    };
    assert.throws(() => vcpu.run(), /out of order/);
    devices.onAccess = () => {};
    assert.equal(vcpu.getRegs().rip, BigInt(CODE));
    assert.equal(vcpu.run(), ExitReason.HLT);
    assert.equal(devices.accesses.length, 2);
  });
});

test("ports of 64-bit code are answered within the instruction, and a vCPU that shall stop does so at the next jump", () => {
  // 1: inc %ebx; mov %ebx, %eax; out %eax, $0x80; in $0x84, %ax; jmp 1b
  const code = [0xff, 0xc3, 0x89, 0xd8, 0xe7, 0x80, 0x66, 0xe5, 0x84, 0xeb, 0xf5];
  guest64(code, (vcpu, devices) => {
    const often = 100_000;
    devices.onAccess = () => {
      devices.wantStop = devices.accesses.length === often;
    };
    assert.equal(vcpu.run(), ExitReason.INTR);
    assert.equal(devices.accesses.length, often);
    const { rax, rbx, rip } = vcpu.getRegs();
    assert.deepEqual([rax, rbx, rip], [0xc784n, BigInt(often / 2), BigInt(CODE)]);
    for (const [index, access] of devices.accesses.entries()) {
      const value = (index >> 1) + 1;
      assert.deepEqual(
        access,
        index % 2 === 0 ? { kind: "out", address: 0x80, size: 4, value } : { kind: "in", address: 0x84, size: 2 },
      );
    }
  });
});

test("a device may move memory in the middle of compiled code", () => {
  // 1: out %al, $0x80; mov TEXT, %ebx; jmp 1b
  guest64([0xe6, 0x80, 0x8b, 0x1c, 0x25, ...dword(TEXT), 0xeb, 0xf5], (vcpu, devices, memory) => {
    memory.set(dword(1), TEXT);
    memory.set(dword(2), TEXT + 0x10000);
    devices.onAccess = () => {
      devices.wantStop = devices.accesses.length === 100_000;
      if (!devices.wantStop) return;
      vcpu.vm.deleteMemorySlot(0);
      vcpu.vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: TEXT, memoryOffset: 0 });
      vcpu.vm.setMemorySlot({ slot: 1, guestAddress: TEXT, sizeBytes: 0x1000, memoryOffset: TEXT + 0x10000 });
    };
    assert.equal(vcpu.run(), ExitReason.INTR);
    assert.deepEqual([devices.accesses.length, vcpu.getRegs().rbx], [100_000, 2n]);
  });
});

test("what a device throws in the middle of 64-bit code ends the run at its instruction", () => {
  // nop; out %al, $0x80; jmp back
  guest64([0x90, 0xe6, 0x80, 0xeb, 0xfb], (vcpu, devices) => {
    devices.onAccess = () => {
      if (devices.accesses.length === 50_000) throw new Error("out of order");
      if (devices.accesses.length === 50_010) devices.wantStop = true;
    };
    assert.throws(() => vcpu.run(), /out of order/);
    assert.equal(devices.accesses.length, 50_000);
    assert.equal(vcpu.getRegs().rip, BigInt(CODE + 1));
    assert.equal(vcpu.run(), ExitReason.INTR);
    assert.equal(devices.accesses.length, 50_010);
  });
});
