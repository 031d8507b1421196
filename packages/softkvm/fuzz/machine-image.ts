/** The memory in which both sides begin: page tables, descriptor tables, handlers and stubs. */

import {
  Control,
  EXITS,
  FIRST_WRITABLE_SLOT,
  HIGH_ALIAS,
  linearOf,
  physicalOf,
  SHARED_LINEAR,
  SHARED_PHYSICAL,
  SLOTS,
  SlotPages,
  Stub,
  System,
} from "./layout.ts";

const PAGE = 0x1000;
const PRESENT = 1n;
const WRITE = 2n;
const USER = 4n;
const NX = 1n << 63n;

/** Vectors that push an error code (Intel SDM vol. 3, 6.13). */
const WITH_ERROR = [8, 10, 11, 12, 13, 14, 17];
export const hasErrorCode = (vector: number) => WITH_ERROR.includes(vector);

/** The page tables' root. */
export const CR3 = BigInt(System.pageTables);

export function writeMachine(memory: Uint8Array): void {
  const view = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
  mapEverything(view);
  writeDescriptors(view);
  for (let slot = 0; slot < SLOTS; slot++) writeStubs(memory, slot);
}

function mapEverything(view: DataView): void {
  let free: number = System.pageTables + PAGE;
  const map = (linear: bigint, physical: number, flags: bigint) => {
    let table: number = System.pageTables;
    for (const shift of [39n, 30n, 21n]) {
      const at = table + Number((linear >> shift) & 511n) * 8;
      let entry = view.getBigUint64(at, true);
      if (entry === 0n) {
        entry = BigInt(free) | PRESENT | WRITE | USER;
        view.setBigUint64(at, entry, true);
        free += PAGE;
        if (free > System.pageTablesEnd) throw new Error("no room for page tables");
      }
      table = Number(entry & 0xffffff000n);
    }
    view.setBigUint64(table + Number((linear >> 12n) & 511n) * 8, BigInt(physical) | flags, true);
  };
  for (let at = PAGE; at < System.end; at += PAGE) map(BigInt(at), at, PRESENT | WRITE);
  map(BigInt(SHARED_LINEAR), SHARED_PHYSICAL, PRESENT | WRITE | USER | NX);
  for (let slot = 0; slot < SLOTS; slot++) {
    for (const [name, { linear, physical, pages, rights }] of Object.entries(SlotPages)) {
      let flags = PRESENT | USER;
      if (rights.includes("w") || (name === "code" && slot >= FIRST_WRITABLE_SLOT)) flags |= WRITE;
      if (!rights.includes("x")) flags |= NX;
      for (let page = 0; page < pages; page++) {
        const offset = linear + page * PAGE;
        const at = physicalOf(slot, physical + page * PAGE);
        map(BigInt(linearOf(slot, offset)), at, flags);
        if (name === "data" || name === "readOnly") map(HIGH_ALIAS + BigInt(linearOf(slot, offset)), at, flags);
      }
    }
  }
}

function writeDescriptors(view: DataView): void {
  const flat = {
    code64: 0x00af9b000000ffffn,
    data: 0x00cf93000000ffffn,
    userCode64: 0x00affb000000ffffn,
    userData: 0x00cff3000000ffffn,
    userCode32: 0x00cffb000000ffffn,
  };
  const tss = 0x0000890000000067n | (BigInt(System.tss) << 16n);
  const entries = [0n, flat.code64, flat.data, flat.userCode64, flat.userData, tss, 0n, 0n, flat.userCode32];
  for (const [index, entry] of entries.entries()) view.setBigUint64(System.gdt + index * 8, entry, true);
  view.setUint32(System.tss + 4, System.stackTop, true);
  view.setUint16(System.tss + 0x66, 0x68, true);
  for (let vector = 0; vector < 32; vector++) {
    const handler = System.handlers + vector * 16;
    const gate = System.idt + vector * 16;
    // An interrupt gate; ring 3 may use those of int3 and into.
    const attributes = vector === 3 || vector === 4 ? 0xee00 : 0x8e00;
    view.setUint32(gate, (0x08 << 16) | (handler & 0xffff), true);
    view.setUint32(gate + 4, (handler & 0xffff0000) | attributes, true);
    // hlt, which leaves to the fuzzer; then back to ring 3 by what it made of the frame.
    const code = hasErrorCode(vector) ? [0xf4, 0x48, 0x83, 0xc4, 0x08, 0x48, 0xcf] : [0xf4, 0x48, 0xcf];
    for (const [index, byte] of code.entries()) view.setUint8(handler + index, byte);
  }
}

/** Emits code whose memory operands are all RIP-relative, so that it needs no register. */
class Emitter {
  readonly #memory: Uint8Array;
  readonly #view: DataView;
  readonly #toLinear: number;
  #at: number;

  constructor(memory: Uint8Array, physical: number, linear: number) {
    this.#memory = memory;
    this.#view = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
    this.#at = physical;
    this.#toLinear = linear - physical;
  }

  bytes(...values: number[]): this {
    this.#memory.set(values, this.#at);
    this.#at += values.length;
    return this;
  }

  /** An opcode, ModRM with `reg` and RIP-relative memory, and an immediate. */
  memory(opcode: number[], reg: number, linear: number, immediate: number[] = []): this {
    this.bytes(...opcode, ((reg & 7) << 3) | 5);
    this.#view.setInt32(this.#at, linear - (this.#at + this.#toLinear + 4 + immediate.length), true);
    this.#at += 4;
    return this.bytes(...immediate);
  }

  jump(linear: number): this {
    this.bytes(0xe9);
    this.#view.setInt32(this.#at, linear - (this.#at + this.#toLinear + 4), true);
    this.#at += 4;
    return this;
  }
}

const word = (value: number) => [value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, value >>> 24];
const rexW = (reg: number) => (reg >= 8 ? 0x4c : 0x48);

function writeStubs(memory: Uint8Array, slot: number): void {
  const { stubs } = SlotPages;
  const control = (offset: number) => linearOf(slot, offset);
  const emitter = (offset: number) =>
    new Emitter(memory, physicalOf(slot, stubs.physical + offset), linearOf(slot, stubs.linear + offset));
  const begin = (e: Emitter) => e.memory([0xc7], 0, SHARED_LINEAR, word(slot));
  const restore = (e: Emitter) => {
    // XRSTOR of x87, SSE and AVX state; then flags by POPF; then general registers.
    e.bytes(0xb8, ...word(7), 0x31, 0xd2).memory([0x48, 0x0f, 0xae], 5, control(Control.xsave));
    e.memory([0x48, 0x8d], 4, control(Control.flags)).bytes(0x9d);
    for (let reg = 0; reg < 16; reg++) e.memory([rexW(reg), 0x8b], reg, control(Control.gpr + reg * 8));
  };

  const long = begin(emitter(Stub.load64));
  long.memory([0x48, 0x8b], 0, control(Control.fsBase)).bytes(0xf3, 0x48, 0x0f, 0xae, 0xd0);
  long.memory([0x48, 0x8b], 0, control(Control.gsBase)).bytes(0xf3, 0x48, 0x0f, 0xae, 0xd8);
  restore(long);
  long.memory([0xff], 4, control(Control.entry));

  const legacy = begin(emitter(Stub.loadLegacy));
  for (const [index, segment] of [0, 2, 3, 4, 5].entries()) {
    legacy.memory([0x8e], segment, control(Control.selectors + index * 2));
  }
  restore(legacy);
  legacy.memory([0xff], 5, control(Control.entry));

  const save = emitter(Stub.save);
  for (let reg = 0; reg < 16; reg++) save.memory([rexW(reg), 0x89], reg, control(Control.outGpr + reg * 8));
  save.memory([0x48, 0x8d], 4, control(Control.outFlags + 8)).bytes(0x9c);
  save.bytes(0xb8, ...word(7), 0x31, 0xd2).memory([0x48, 0x0f, 0xae], 4, control(Control.outXsave));
  save.memory([0xff], 4, control(Control.next));

  for (let exit = 0; exit < EXITS; exit++) {
    emitter(Stub.exits + exit * Stub.exitSize)
      .memory([0xc7], 0, control(Control.outExit), word(exit))
      .jump(linearOf(slot, stubs.linear + Stub.save));
  }
}
