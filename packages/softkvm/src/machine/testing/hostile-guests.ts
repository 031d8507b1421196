/**
 * Guests that do their worst, in machine code. Each begins at {@link START} of a machine of {@link MEMORY_BYTES} and does not
 * end by itself.
 */

import { Cr4, Efer, flatProtectedMode, flatRealMode, longMode, type Sregs } from "@lodge/kvm";
import { openSoft } from "../open.ts";
import type { SoftVcpu } from "../vcpu.ts";
import type { SoftVm } from "../vm.ts";

export const MEMORY_BYTES = 4 * 2 ** 20;
export const START = 0x1000;
const PAGE_TABLES = 0x8000;
const GDT = 0x3000;
/** Present, writable, the user's; and a large page. */
const TABLE = 7n;
const LARGE = 0x87n;

export interface HostileGuest {
  readonly name: string;
  /** Puts the guest into memory, and the vCPU at its beginning. */
  begin(bytes: Uint8Array<ArrayBufferLike>, sregs: Sregs): Sregs;
  /** What its registers hold at first: rax and on, by their encoding. */
  readonly registers?: readonly bigint[];
}

/** Bytes from hexadecimal with anything else between, which may be assembly. */
function code(text: string): Uint8Array {
  const lines = text.split("\n").map((line) => line.split("|")[0]!.replaceAll(" ", ""));
  return Uint8Array.from(Buffer.from(lines.join(""), "hex"));
}

/** A tree of page tables in which every entry of each level is the same: each 2 MiB of addresses are the first 2 MiB. */
function everywhere(bytes: Uint8Array<ArrayBufferLike>): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  for (let entry = 0; entry < 512; entry++) {
    view.setBigUint64(PAGE_TABLES + entry * 8, BigInt(PAGE_TABLES + 0x1000) | TABLE, true);
    view.setBigUint64(PAGE_TABLES + 0x1000 + entry * 8, BigInt(PAGE_TABLES + 0x2000) | TABLE, true);
    view.setBigUint64(PAGE_TABLES + 0x2000 + entry * 8, LARGE, true);
  }
}

const protectedCode = (text: string) => (bytes: Uint8Array<ArrayBufferLike>, sregs: Sregs) => {
  bytes.set(code(text), START);
  return flatProtectedMode(sregs);
};
const longCode = (text: string) => (bytes: Uint8Array<ArrayBufferLike>, sregs: Sregs) => {
  bytes.set(code(text), START);
  everywhere(bytes);
  return longMode(sregs, BigInt(PAGE_TABLES));
};

export const HOSTILE_GUESTS: readonly HostileGuest[] = [
  {
    name: "a loop that changes its own immediate",
    begin: protectedCode(`
      b8 00000000    | again: mov $0, %eax
      ff 05 01100000 | incl again+1
      eb f3          | jmp again`),
  },
  {
    name: "a loop that runs hot, then changes its own code",
    begin: protectedCode(`
      b9 00000100    | again: mov $65536, %ecx
      83 c0 01       | inner: add $1, %eax
      49             | dec %ecx
      75 fa          | jnz inner
      80 05 07100000 02 | addb $2, inner+2
      eb ec          | jmp again`),
  },
  {
    name: "new code everywhere, each piece called once",
    registers: [0n, 0n, 0n, 0n, 0x800n, 0n, 0n, 0x100000n],
    begin: protectedCode(`
      c6 07 40       | again: movb $0x40, (%edi)    inc %eax
      c6 47 01 c3    | movb $0xc3, 1(%edi)          ret
      ff d7          | call *%edi
      83 c7 03       | add $3, %edi
      81 e7 ffff2f00 | and $0x2fffff, %edi
      81 cf 00001000 | or $0x100000, %edi
      eb e6          | jmp again`),
  },
  {
    name: "every encoding one after the other, what faults as well",
    begin: (bytes, sregs) => {
      bytes.fill(0xcc, 0x100000);
      bytes.set(
        code(`
      bf 00001000    | again: mov $0x100000, %edi
      69 c0 0d661900 | imul $1664525, %eax, %eax
      05 5ff36e3c    | add $1013904223, %eax
      0f c8          | bswap %eax
      25 ffffff07    | and $0x7ffffff, %eax        opcodes of two bytes, with random ModRM
      c7 07 660f0000 | movl $0x0f66, (%edi)
      89 47 02       | mov %eax, 2(%edi)
      c6 47 0e c3    | movb $0xc3, 14(%edi)
      bc 00080000    | mov $0x800, %esp
      ff d7          | call *%edi
      eb d5          | jmp again`),
        START,
      );
      // Every exception goes back to the loop.
      const view = new DataView(bytes.buffer, bytes.byteOffset);
      for (let vector = 0; vector < 32; vector++) {
        view.setUint32(0x2000 + vector * 8, (0x08 << 16) | START, true);
        view.setUint32(0x2000 + vector * 8 + 4, 0x8e00, true);
      }
      view.setBigUint64(GDT + 8, 0x00cf9b000000ffffn, true);
      view.setBigUint64(GDT + 16, 0x00cf93000000ffffn, true);
      return {
        ...flatProtectedMode(sregs),
        gdt: { base: BigInt(GDT), limit: 23 },
        idt: { base: 0x2000n, limit: 0xff },
        cr4: Cr4.OSFXSR | Cr4.OSXMMEXCPT,
      };
    },
  },
  {
    name: "jumps to random addresses, all of which are the same page",
    begin: longCode(`
      48b9 2d7f954c2df45158 | mov $0x5851f42d4c957f2d, %rcx
      480fafc1       | again: imul %rcx, %rax
      48ffc0         | inc %rax
      4889c3         | mov %rax, %rbx
      48c1eb11       | shr $17, %rbx
      4881e3 0000e0ff | and $-0x200000, %rbx
      4881cb 0a100000 | or $again, %rbx
      ffe3           | jmp *%rbx`),
  },
  {
    name: "loads and stores at random addresses, all of which are the same large page",
    begin: longCode(`
      48b9 2d7f954c2df45158 | mov $0x5851f42d4c957f2d, %rcx
      480fafc1       | again: imul %rcx, %rax
      48ffc0         | inc %rax
      4889c3         | mov %rax, %rbx
      48c1eb11       | shr $17, %rbx
      4881e3 0000e0ff | and $-0x200000, %rbx
      488b13         | mov (%rbx), %rdx
      48899300001000 | mov %rdx, 0x100000(%rbx)
      ebe0           | jmp again`),
  },
  {
    name: "page tables mapped onto themselves, and changed through that",
    begin: (bytes, sregs) => {
      const view = new DataView(bytes.buffer, bytes.byteOffset);
      // One table is all four levels; its entry 0 is itself, so every address is in it, or in what it writes there.
      for (let entry = 0; entry < 512; entry++)
        view.setBigUint64(PAGE_TABLES + entry * 8, BigInt(PAGE_TABLES) | TABLE, true);
      view.setBigUint64(PAGE_TABLES + 8, BigInt(START) | TABLE, true);
      bytes.set(
        code(`
      48b9 2d7f954c2df45158 | mov $0x5851f42d4c957f2d, %rcx
      480fafc1       | again: imul %rcx, %rax
      48ffc0         | inc %rax
      4889c3         | mov %rax, %rbx
      48c1eb11       | shr $17, %rbx
      80e3 f0        | and $0xf0, %bl
      488b13         | mov (%rbx), %rdx
      488913         | mov %rdx, (%rbx)
      0f013b         | invlpg (%rbx)
      66 81fb ffff   | cmp $0xffff, %bx
      0f20da         | mov %cr3, %rdx
      0f22da         | mov %rdx, %cr3
      ebd5           | jmp again`),
        START,
      );
      return longMode(sregs, BigInt(PAGE_TABLES));
    },
  },
  {
    name: "in and out of protected mode",
    begin: (bytes, sregs) => {
      // Selector 8 has the base that it has as a segment of real mode.
      new DataView(bytes.buffer, bytes.byteOffset).setBigUint64(GDT + 8, 0x00009b000080ffffn, true);
      bytes.set(
        code(`
      0f20c0         | again: mov %cr0, %eax
      3401           | xor $1, %al
      0f22c0         | mov %eax, %cr0
      ea 800f 0800   | ljmp $8, $again-0x80`),
        START,
      );
      const real = flatRealMode(sregs);
      return { ...real, cs: { ...real.cs, base: 0x80n, selector: 8 }, gdt: { base: BigInt(GDT), limit: 15 } };
    },
  },
  {
    name: "in and out of long mode",
    begin: (bytes, sregs) => {
      everywhere(bytes);
      const view = new DataView(bytes.buffer, bytes.byteOffset);
      view.setBigUint64(GDT + 8, 0x00cf9b000000ffffn, true);
      view.setBigUint64(GDT + 16, 0x00cf93000000ffffn, true);
      view.setBigUint64(GDT + 24, 0x00af9b000000ffffn, true);
      bytes.set(
        code(`
      0f20c0         | again: mov %cr0, %eax
      0d 00000080    | or $0x80000000, %eax
      0f22c0         | mov %eax, %cr0              paging on: compatibility mode
      0f20c0         | mov %cr0, %eax
      25 ffffff7f    | and $0x7fffffff, %eax
      0f22c0         | mov %eax, %cr0              paging off
      eb e7          | jmp again`),
        START,
      );
      return {
        ...flatProtectedMode(sregs),
        gdt: { base: BigInt(GDT), limit: 31 },
        cr3: BigInt(PAGE_TABLES),
        cr4: Cr4.PAE,
        efer: Efer.LME,
      };
    },
  },
  {
    name: "string instructions without end",
    registers: [0n, 0xffffffffn, 0n, 0n, 0n, 0n, 0x100000n, 0x200000n],
    begin: protectedCode(`
      be 00001000    | again: mov $0x100000, %esi
      bf 01001000    | mov $0x100001, %edi
      b9 00f02f00    | mov $0x2ff000, %ecx
      f3a4           | rep movsb
      eb ed          | jmp again`),
  },
];

/** One that ends: counts in rax how many of {@link PIECES} pieces of new code it has executed, each some times. */
export const PIECES = 3000;
export const COUNTING_GUEST: HostileGuest = {
  name: "new code, executed a thousand times a piece",
  registers: [0n, 0n, 0n, 0n, 0x800n, BigInt(PIECES), 0n, 0x100000n],
  begin: protectedCode(`
      c707 40e2fdc3  | again: movl code, (%edi)   inc %eax; loop .-1; ret
      b9 e8030000    | mov $1000, %ecx
      ffd7           | call *%edi
      83c7 05        | add $5, %edi
      4d             | dec %ebp
      75 ed          | jnz again
      f4             | hlt`),
};

export interface HostileMachine {
  readonly vm: SoftVm;
  readonly vcpu: SoftVcpu;
  /** Puts the guest into memory, and the vCPU at its beginning. */
  restart(): void;
}

/** A machine with one of these guests in it, whose memory begins at `offset` of linear memory. */
export function hostileMachine(guest: HostileGuest, offset = 0): HostileMachine {
  const soft = openSoft();
  const memory = soft.createMemory(offset + MEMORY_BYTES);
  const vm = soft.createVm(memory) as SoftVm;
  vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: MEMORY_BYTES, memoryOffset: offset });
  const vcpu = vm.createVcpu(0) as SoftVcpu;
  vcpu.setCpuid(soft.supportedCpuid());
  const [atReset, regsAtReset] = [vcpu.getSregs(), vcpu.getRegs()];
  const restart = () => {
    const sregs = guest.begin(new Uint8Array(memory.buffer, offset, MEMORY_BYTES), atReset);
    vcpu.setSregs(sregs);
    const [rax = 0n, rcx = 0n, rdx = 0n, rbx = 0n, rsp = 0x800n, rbp = 0n, rsi = 0n, rdi = 0n] = guest.registers ?? [];
    const rip = BigInt(START) - sregs.cs.base;
    vcpu.setRegs({ ...regsAtReset, rip, rflags: 2n, rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi });
  };
  restart();
  return { vm, vcpu, restart };
}
