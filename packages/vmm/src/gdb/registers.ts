/** A vCPU's registers as GDB sees them: their description, and the order of the `g` packet. */

import type { Fpu, Regs, Segment, Sregs } from "@lodge/kvm";

export interface GuestRegisters {
  readonly regs: Regs;
  readonly sregs: Sregs;
  readonly fpu: Fpu;
}

const GENERAL = ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"] as const;
const NUMBERED = ["r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"] as const;
const SEGMENTS = ["cs", "ss", "ds", "es", "fs", "gs"] as const;
const X87_CONTROL = ["fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop"] as const;

type Place = { readonly name: string; readonly bits: number; readonly type: string; readonly group?: string };

/** Features by the names that GDB knows (gdb/features/i386/64bit-*.xml), each with its registers in order. */
const FEATURES: Readonly<Record<string, readonly Place[]>> = {
  "org.gnu.gdb.i386.core": [
    ...[...GENERAL, ...NUMBERED].map((name) => {
      return { name, bits: 64, type: name === "rsp" || name === "rbp" ? "data_ptr" : "int64" };
    }),
    { name: "rip", bits: 64, type: "code_ptr" },
    { name: "eflags", bits: 32, type: "i386_eflags" },
    ...SEGMENTS.map((name) => ({ name, bits: 32, type: "int32" })),
    ...Array.from({ length: 8 }, (_, index) => ({ name: `st${index}`, bits: 80, type: "i387_ext" })),
    ...X87_CONTROL.map((name) => ({ name, bits: 32, type: "int", group: "float" })),
  ],
  "org.gnu.gdb.i386.sse": [
    ...Array.from({ length: 16 }, (_, index) => ({ name: `xmm${index}`, bits: 128, type: "vec128" })),
    { name: "mxcsr", bits: 32, type: "int", group: "vector" },
  ],
  "org.gnu.gdb.i386.segments": [
    { name: "fs_base", bits: 64, type: "int" },
    { name: "gs_base", bits: 64, type: "int" },
  ],
};

const FLAGS: Readonly<Record<number, string>> = {
  ...{
    0: "CF",
    2: "PF",
    4: "AF",
    6: "ZF",
    7: "SF",
    8: "TF",
    9: "IF",
    10: "DF",
    11: "OF",
    14: "NT",
    16: "RF",
    17: "VM",
  },
  ...{ 18: "AC", 19: "VIF", 20: "VIP", 21: "ID" },
};

const PLACES: readonly (Place & { at: number })[] = (() => {
  let at = 0;
  return Object.values(FEATURES)
    .flat()
    .map((place) => {
      const here = { ...place, at };
      at += place.bits / 8;
      return here;
    });
})();

export const REGISTER_BYTES = PLACES.reduce((total, { bits }) => total + bits / 8, 0);

/** Where a register's bytes lie among all; undefined for a number that none has. */
export function registerPlace(number: number): { at: number; bytes: number } | undefined {
  const place = PLACES[number];
  return place && { at: place.at, bytes: place.bits / 8 };
}

/** What the bytes of an xmm register can be read as: element types by GDB's names. */
const ELEMENTS = {
  v4_float: "ieee_single 4",
  v2_double: "ieee_double 2",
  v16_int8: "int8 16",
  v8_int16: "int16 8",
  v4_int32: "int32 4",
  v2_int64: "int64 2",
};
const VECTOR_TYPE = (() => {
  const elements = Object.entries(ELEMENTS).map(([name, text]) => [name, ...text.split(" ")] as const);
  const vectors = elements.map(([name, type, count]) => `<vector id="${name}_t" type="${type}" count="${count}"/>`);
  const fields = elements.map(([name]) => `<field name="${name}" type="${name}_t"/>`);
  return `${vectors.join("")}<union id="vec128">${fields.join("")}<field name="uint128" type="uint128"/></union>`;
})();

/** target.xml (appendix G of the same book). */
export function targetDescription(): string {
  const features = Object.entries(FEATURES).map(([name, places]) => {
    const flags = Object.entries(FLAGS).map(([bit, flag]) => `<field name="${flag}" start="${bit}" end="${bit}"/>`);
    const types = name.endsWith("core")
      ? `<flags id="i386_eflags" size="4">${flags.join("")}</flags>`
      : name.endsWith("sse")
        ? VECTOR_TYPE
        : "";
    const registers = places.map(
      ({ name: register, bits, type, group }) =>
        `<reg name="${register}" bitsize="${bits}" type="${type}"${group === undefined ? "" : ` group="${group}"`}/>`,
    );
    return `<feature name="${name}">${types}${registers.join("")}</feature>`;
  });
  const head = '<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd">';
  return `${head}<target><architecture>i386:x86-64</architecture>${features.join("")}</target>`;
}

/** x87's tag word from the bits that say which physical registers are in use: 0 in use, 3 empty. */
function fullTags(abridged: number): number {
  let tags = 0;
  for (let index = 0; index < 8; index++) if (!(abridged & (1 << index))) tags |= 3 << (index * 2);
  return tags;
}

function abridgedTags(full: number): number {
  let tags = 0;
  for (let index = 0; index < 8; index++) if (((full >> (index * 2)) & 3) !== 3) tags |= 1 << index;
  return tags;
}

export function encodeRegisters({ regs, sregs, fpu }: GuestRegisters): Buffer {
  const all = Buffer.alloc(REGISTER_BYTES);
  const x87 = {
    ...{ fctrl: fpu.fcw, fstat: fpu.fsw, ftag: fullTags(fpu.ftwx), fop: fpu.lastOpcode },
    ...{ fiseg: 0, fioff: Number(fpu.lastIp & 0xffffffffn), foseg: 0, fooff: Number(fpu.lastDp & 0xffffffffn) },
  };
  for (const { name, bits, at } of PLACES) {
    if (name in regs && bits === 64) all.writeBigUInt64LE(regs[name as keyof Regs], at);
    else if (name === "eflags") all.writeUInt32LE(Number(regs.rflags & 0xffffffffn), at);
    else if (name === "fs_base") all.writeBigUInt64LE(sregs.fs.base, at);
    else if (name === "gs_base") all.writeBigUInt64LE(sregs.gs.base, at);
    else if (name.startsWith("xmm")) all.set(fpu.xmm.subarray(Number(name.slice(3)) * 16).subarray(0, 16), at);
    else if (/^st\d/.test(name)) all.set(fpu.fpr.subarray(Number(name.slice(2)) * 16).subarray(0, 10), at);
    else if (name === "mxcsr") all.writeUInt32LE(fpu.mxcsr, at);
    else if (name in x87) all.writeUInt32LE(x87[name as keyof typeof x87], at);
    else all.writeUInt32LE((sregs[name as keyof Sregs] as Segment).selector, at);
  }
  return all;
}

/**
 * The registers that these bytes are. Segment selectors stay what they were: GDB knows no descriptors, and a selector alone
 * changes nothing that runs.
 */
export function decodeRegisters(all: Buffer, before: GuestRegisters): GuestRegisters {
  const regs = { ...before.regs };
  const sregs = { ...before.sregs, fs: { ...before.sregs.fs }, gs: { ...before.sregs.gs } };
  const fpu = { ...before.fpu, fpr: before.fpu.fpr.slice(), xmm: before.fpu.xmm.slice() };
  for (const { name, bits, at } of PLACES) {
    if (name in regs && bits === 64) regs[name as keyof Regs] = all.readBigUInt64LE(at);
    else if (name === "eflags") regs.rflags = BigInt(all.readUInt32LE(at));
    else if (name === "fs_base") sregs.fs.base = all.readBigUInt64LE(at);
    else if (name === "gs_base") sregs.gs.base = all.readBigUInt64LE(at);
    else if (name.startsWith("xmm")) fpu.xmm.set(all.subarray(at, at + 16), Number(name.slice(3)) * 16);
    else if (/^st\d/.test(name)) fpu.fpr.set(all.subarray(at, at + 10), Number(name.slice(2)) * 16);
    else if (name === "mxcsr") fpu.mxcsr = all.readUInt32LE(at);
    else if (name === "fctrl") fpu.fcw = all.readUInt16LE(at);
    else if (name === "fstat") fpu.fsw = all.readUInt16LE(at);
    else if (name === "ftag") fpu.ftwx = abridgedTags(all.readUInt16LE(at));
    else if (name === "fop") fpu.lastOpcode = all.readUInt16LE(at);
  }
  return { regs, sregs, fpu };
}
