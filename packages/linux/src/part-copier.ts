/**
 * Copying parts of files to places in others by threads that need no JavaScript in between. A thread takes the next part, reads
 * it, looks for zeros and writes the rest while it is still in that processor's cache. Calls one by one, each through the event
 * loop, take more of the processors' time than the kernel's copies.
 */

import { mapCode, trySyscall6 } from "./direct-syscall.ts";
import { writeNumber64 } from "./file.ts";
import { koffi } from "./koffi.ts";
import { addressOf, MapFlag, mmap, munmap, Protection } from "./memory.ts";

/** Zeros are looked for in blocks of so many bytes; parts consist of whole ones. */
export const COPIED_BLOCK_BYTES = 4096;
/** A part has as many bits for its blocks as there are in 32 bytes. */
export const MOST_COPIED_BYTES = 256 * COPIED_BLOCK_BYTES;

/** What is done about blocks of zeros. */
export const Zeros = {
  /** They are not looked for. */
  WRITTEN: 0,
  /** A part that is all zeros is not written; one that has others beside them is written as it is. */
  WRITTEN_BESIDE: 1,
  /** They are not written. */
  LEFT_OUT: 3,
} as const;
export type Zeros = (typeof Zeros)[keyof typeof Zeros];

export interface CopiedPart {
  readonly fromFd: number;
  readonly from: number;
  readonly toFd: number;
  readonly to: number;
  readonly length: number;
  readonly zeros: Zeros;
}

/** The list in memory: what is next, how many there are, and then of each part, in 64-bit words. */
const NEXT = 0;
const COUNT = 8;
const PART_BYTES = 128;
const Part = {
  FROM_FD: 0,
  FROM: 8,
  TO_FD: 16,
  TO: 24,
  LENGTH: 32,
  ZEROS: 40,
  DONE: 48,
  ZERO_BLOCKS: 56,
  HELD: 64,
} as const;

/** Whether this processor's machine code is here. */
export const canCopyParts = process.arch === "x64";

/**
 * Memory for threads, one {@link MOST_COPIED_BYTES} each. It is not the engine's, which would take it for a reason to look for
 * garbage: that takes as long as copying 100 MiB.
 */
export class CopyRooms implements Disposable {
  readonly count: number;
  readonly #address: number;

  constructor(count: number) {
    this.count = count;
    const protection = Protection.READ | Protection.WRITE;
    this.#address = mmap({ length: count * MOST_COPIED_BYTES, protection, flags: MapFlag.PRIVATE | MapFlag.ANONYMOUS });
  }

  /** Where a thread's memory begins. */
  at(index: number): number {
    return this.#address + index * MOST_COPIED_BYTES;
  }

  /** Once, when nobody copies any more. */
  [Symbol.dispose](): void {
    munmap(this.#address, this.count * MOST_COPIED_BYTES);
  }
}

/** A list of parts, filled and copied again and again. */
export class PartCopier {
  readonly capacity: number;
  readonly #view: DataView;
  readonly #address: number;
  #count = 0;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.#view = new DataView(new ArrayBuffer((capacity + 1) * PART_BYTES));
    this.#address = addressOf(this.#view.buffer);
  }

  get count(): number {
    return this.#count;
  }

  clear(): void {
    this.#count = 0;
  }

  /** Puts a part on the list, which nobody is copying and which is not full. */
  push(part: CopiedPart): void {
    if (this.#count === this.capacity) throw new RangeError(`the list has ${this.capacity} parts and is full`);
    if (part.length % COPIED_BLOCK_BYTES !== 0 || part.length <= 0 || part.length > MOST_COPIED_BYTES) {
      throw new RangeError(`a part of ${part.length} bytes`);
    }
    this.#count += 1;
    const at = this.#count * PART_BYTES;
    for (let word = 0; word < PART_BYTES; word += 8) writeNumber64(this.#view, at + word, 0);
    writeNumber64(this.#view, at + Part.FROM_FD, part.fromFd);
    writeNumber64(this.#view, at + Part.FROM, part.from);
    writeNumber64(this.#view, at + Part.TO_FD, part.toFd);
    writeNumber64(this.#view, at + Part.TO, part.to);
    writeNumber64(this.#view, at + Part.LENGTH, part.length);
    writeNumber64(this.#view, at + Part.ZEROS, part.zeros);
  }

  /**
   * Copies the list by as many threads as there are rooms. Whatever fails, a file's end also, leaves its part not {@link done}; parts
   * behind it are tried all the same.
   */
  async copy(rooms: CopyRooms): Promise<void> {
    writeNumber64(this.#view, NEXT, 0);
    writeNumber64(this.#view, COUNT, this.#count);
    await Promise.all(Array.from({ length: rooms.count }, (_, index) => this.#thread(rooms.at(index))));
  }

  #thread(room: number): Promise<void> {
    routine ??= machineCode();
    return new Promise((done, fail) => {
      routine!.async(this.#address, room, (error) => (error ? fail(error) : done()));
    });
  }

  /** No part is begun any more. */
  stop(): void {
    writeNumber64(this.#view, NEXT, this.capacity);
  }

  /** Whether a part was copied as it was to be. */
  done(index: number): boolean {
    return this.#view.getUint8((index + 1) * PART_BYTES + Part.DONE) !== 0;
  }

  /** Whether a part that is done has a block of zeros. */
  hasZeros(index: number): boolean {
    return this.#view.getUint16((index + 1) * PART_BYTES + Part.ZERO_BLOCKS, true) !== 0;
  }

  get anyZeros(): boolean {
    for (let index = 0; index < this.#count; index++) if (this.hasZeros(index)) return true;
    return false;
  }

  /** Whether all of these blocks of a part that is done are zeros. */
  isZero(index: number, block: number, count: number): boolean {
    if (!this.hasZeros(index)) return false;
    const held = (index + 1) * PART_BYTES + Part.HELD;
    for (let at = block; at < block + count; at++) {
      if ((this.#view.getUint8(held + (at >> 3)) & (1 << (at & 7))) !== 0) return false;
    }
    return true;
  }
}

interface Routine {
  async(list: number, room: number, done: (error: Error | null) => void): void;
}

let routine: Routine | undefined;

/**
 * void copy(list, room), System V's calling convention; encodings from Intel SDM vol. 2. Its page stays: a thread may be at work
 * in it when another ends the process.
 */
function machineCode(): Routine {
  const code = new Uint8Array([
    0x53, // push rbx
    0x55, // push rbp
    ...[0x41, 0x54], // push r12
    ...[0x41, 0x55], // push r13
    ...[0x41, 0x56], // push r14
    ...[0x41, 0x57], // push r15
    ...[0x48, 0x89, 0xfb], // mov rbx, rdi
    ...[0x48, 0x89, 0xf5], // mov rbp, rsi
    // next:
    ...[0xb8, 0x01, 0x00, 0x00, 0x00], // mov eax, 1
    ...[0xf0, 0x48, 0x0f, 0xc1, 0x03], // lock xadd [rbx], rax
    ...[0x48, 0x3b, 0x43, 0x08], // cmp rax, [rbx + 8]
    ...[0x0f, 0x83, 0x24, 0x01, 0x00, 0x00], // jae end
    ...[0x48, 0xff, 0xc0], // inc rax
    ...[0x48, 0xc1, 0xe0, 0x07], // shl rax, 7
    ...[0x4c, 0x8d, 0x24, 0x03], // lea r12, [rbx + rax]
    ...[0x4d, 0x8b, 0x6c, 0x24, 0x08], // mov r13, [r12 + 8]
    ...[0x4d, 0x8b, 0x74, 0x24, 0x20], // mov r14, [r12 + 32]
    ...[0x49, 0x89, 0xef], // mov r15, rbp
    ...[0x4d, 0x89, 0xf1], // mov r9, r14
    ...[0x49, 0xc1, 0xe9, 0x0c], // shr r9, 12
    // read:
    ...[0x49, 0x8b, 0x3c, 0x24], // mov rdi, [r12]
    ...[0x4c, 0x89, 0xfe], // mov rsi, r15
    ...[0x4c, 0x89, 0xf2], // mov rdx, r14
    ...[0x4d, 0x89, 0xea], // mov r10, r13
    ...[0xb8, 0x11, 0x00, 0x00, 0x00], // mov eax, 17
    ...[0x0f, 0x05], // syscall
    ...[0x48, 0x85, 0xc0], // test rax, rax
    ...[0x7e, 0xb4], // jle next
    ...[0x49, 0x01, 0xc7], // add r15, rax
    ...[0x49, 0x01, 0xc5], // add r13, rax
    ...[0x49, 0x29, 0xc6], // sub r14, rax
    ...[0x75, 0xdc], // jne read
    ...[0x41, 0xf6, 0x44, 0x24, 0x28, 0x01], // test byte [r12 + 40], 1
    ...[0x74, 0x7d], // jz whole
    ...[0x45, 0x31, 0xc0], // xor r8d, r8d
    ...[0x45, 0x31, 0xd2], // xor r10d, r10d
    ...[0x48, 0x89, 0xea], // mov rdx, rbp
    // look:
    ...[0x48, 0x83, 0x3a, 0x00], // cmp [rdx], 0
    ...[0x75, 0x14], // jne held
    ...[0x48, 0x89, 0xd7], // mov rdi, rdx
    ...[0xb9, 0x00, 0x02, 0x00, 0x00], // mov ecx, 512
    ...[0x31, 0xc0], // xor eax, eax
    ...[0xf3, 0x48, 0xaf], // repe scasq
    ...[0x75, 0x05], // jne held
    ...[0x49, 0xff, 0xc2], // inc r10
    ...[0xeb, 0x06], // jmp more
    // held:
    ...[0x4d, 0x0f, 0xab, 0x44, 0x24, 0x40], // bts [r12 + 64], r8
    // more:
    ...[0x48, 0x81, 0xc2, 0x00, 0x10, 0x00, 0x00], // add rdx, 4096
    ...[0x49, 0xff, 0xc0], // inc r8
    ...[0x4d, 0x39, 0xc8], // cmp r8, r9
    ...[0x72, 0xd1], // jb look
    ...[0x4d, 0x89, 0x54, 0x24, 0x38], // mov [r12 + 56], r10
    ...[0x4d, 0x85, 0xd2], // test r10, r10
    ...[0x74, 0x3b], // jz whole
    ...[0x4d, 0x39, 0xca], // cmp r10, r9
    ...[0x0f, 0x84, 0x80, 0x00, 0x00, 0x00], // je done
    ...[0x41, 0xf6, 0x44, 0x24, 0x28, 0x02], // test byte [r12 + 40], 2
    ...[0x74, 0x2a], // jz whole
    ...[0x45, 0x31, 0xc0], // xor r8d, r8d
    // find:
    ...[0x4d, 0x39, 0xc8], // cmp r8, r9
    ...[0x73, 0x70], // jae done
    ...[0x4d, 0x0f, 0xa3, 0x44, 0x24, 0x40], // bt [r12 + 64], r8
    ...[0x72, 0x05], // jb found
    ...[0x49, 0xff, 0xc0], // inc r8
    ...[0xeb, 0xee], // jmp find
    // found:
    ...[0x4c, 0x89, 0xc7], // mov rdi, r8
    // extend:
    ...[0x49, 0xff, 0xc0], // inc r8
    ...[0x4d, 0x39, 0xc8], // cmp r8, r9
    ...[0x73, 0x0f], // jae run
    ...[0x4d, 0x0f, 0xa3, 0x44, 0x24, 0x40], // bt [r12 + 64], r8
    ...[0x72, 0xf0], // jb extend
    ...[0xeb, 0x05], // jmp run
    // whole:
    ...[0x31, 0xff], // xor edi, edi
    ...[0x4d, 0x89, 0xc8], // mov r8, r9
    // run:
    ...[0x4d, 0x89, 0xc6], // mov r14, r8
    ...[0x49, 0x29, 0xfe], // sub r14, rdi
    ...[0x48, 0xc1, 0xe7, 0x0c], // shl rdi, 12
    ...[0x49, 0xc1, 0xe6, 0x0c], // shl r14, 12
    ...[0x4c, 0x8d, 0x7c, 0x3d, 0x00], // lea r15, [rbp + rdi]
    ...[0x4d, 0x8b, 0x6c, 0x24, 0x18], // mov r13, [r12 + 24]
    ...[0x49, 0x01, 0xfd], // add r13, rdi
    // write:
    ...[0x49, 0x8b, 0x7c, 0x24, 0x10], // mov rdi, [r12 + 16]
    ...[0x4c, 0x89, 0xfe], // mov rsi, r15
    ...[0x4c, 0x89, 0xf2], // mov rdx, r14
    ...[0x4d, 0x89, 0xea], // mov r10, r13
    ...[0xb8, 0x12, 0x00, 0x00, 0x00], // mov eax, 18
    ...[0x0f, 0x05], // syscall
    ...[0x48, 0x85, 0xc0], // test rax, rax
    ...[0x0f, 0x8e, 0xe6, 0xfe, 0xff, 0xff], // jle next
    ...[0x49, 0x01, 0xc7], // add r15, rax
    ...[0x49, 0x01, 0xc5], // add r13, rax
    ...[0x49, 0x29, 0xc6], // sub r14, rax
    ...[0x75, 0xd7], // jne write
    ...[0x4d, 0x39, 0xc8], // cmp r8, r9
    ...[0x72, 0x8b], // jb find
    // done:
    ...[0x49, 0xc7, 0x44, 0x24, 0x30, 0x01, 0x00, 0x00, 0x00], // mov [r12 + 48], 1
    ...[0xe9, 0xc8, 0xfe, 0xff, 0xff], // jmp next
    // end:
    ...[0x41, 0x5f], // pop r15
    ...[0x41, 0x5e], // pop r14
    ...[0x41, 0x5d], // pop r13
    ...[0x41, 0x5c], // pop r12
    0x5d, // pop rbp
    0x5b, // pop rbx
    0xc3, // ret
  ]);
  return koffi.decode(BigInt(mapCode(code, trySyscall6)), koffi.proto("void CopyParts(intptr_t, intptr_t)")) as Routine;
}
