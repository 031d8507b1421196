/** Requests that each device might take: right in form, mostly, with fields at random. */

import { Header, Opcode } from "../fs/layout.ts";
import { FieldWriter, Message, NO_FID } from "../p9/protocol.ts";
import type { Random } from "../testing/random.ts";
import type { Request } from "./hostile-driver.ts";

function bytes(random: Random, length: number): Uint8Array {
  return Uint8Array.from({ length }, () => random.u32());
}

function build(length: number, fill: (view: DataView) => void): Uint8Array {
  const view = new DataView(new ArrayBuffer(length));
  fill(view);
  return new Uint8Array(view.buffer);
}

function concat(...parts: Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

/** A number that is small, at an edge, or anything. */
function number(random: Random, small: number): number {
  return random.chance(0.8) ? random.below(small) : random.pick([0, 0xffffffff, 0x80000000, random.u32()]);
}

export function blkRequest(random: Random): Request {
  const type = random.chance(0.9) ? random.pick([0, 1, 4, 8, 11, 13]) : random.u32();
  const header = build(16, (view) => {
    view.setUint32(0, type, true);
    view.setUint32(8, number(random, 300), true);
    view.setUint32(12, random.chance(0.98) ? 0 : random.u32(), true);
  });
  const segments = Array.from({ length: random.below(4) }, () =>
    build(16, (view) => {
      view.setUint32(0, number(random, 300), true);
      view.setUint32(8, number(random, 64), true);
      view.setUint32(12, random.below(4), true);
    }),
  );
  const data = type === 1 ? bytes(random, 512 * random.below(3) + (random.chance(0.05) ? 7 : 0)) : concat(...segments);
  const room = type === 0 ? 512 * random.below(8) + 1 : random.below(40);
  return { queue: random.below(2), out: concat(header, data), room };
}

export function consoleRequest(random: Random): Request {
  const queue = random.below(6);
  if (queue !== 3)
    return { queue, out: queue & 1 ? bytes(random, random.below(200)) : bytes(random, 0), room: queue & 1 ? 0 : 64 };
  const control = build(8, (view) => {
    view.setUint32(0, number(random, 3), true);
    view.setUint16(4, random.below(9), true);
    view.setUint16(6, random.below(3), true);
  });
  return { queue, out: control.subarray(0, random.chance(0.95) ? 8 : random.below(8)), room: 0 };
}

export function pmemRequest(random: Random): Request {
  const type = build(4, (view) => view.setUint32(0, number(random, 2), true));
  const whole = random.chance(0.95);
  return {
    queue: 0,
    out: whole ? type : type.subarray(0, random.below(4)),
    room: whole ? 4 + random.below(8) : random.below(8),
  };
}

export function rngRequest(random: Random): Request {
  return { queue: 0, out: bytes(random, random.chance(0.1) ? 4 : 0), room: random.below(2000) };
}

export function netRequest(random: Random): Request {
  const queue = random.below(5);
  if (queue === 4 || random.chance(0.1)) {
    const command = concat(Uint8Array.of(random.below(7), random.below(6)), bytes(random, random.below(40)));
    return { queue: random.pick([2, 4]), out: command, room: random.below(3) };
  }
  if (queue % 2 === 0) return { queue, out: bytes(random, 0), room: random.below(2000) };
  const header = build(12, (view) => {
    view.setUint8(0, random.below(3));
    view.setUint8(1, random.pick([0, 0, 1, 4, 3, 0x81]));
    for (const offset of [2, 4, 6, 8])
      view.setUint16(offset, random.chance(0.8) ? random.below(100) : random.u32(), true);
  });
  return { queue, out: concat(header, bytes(random, random.below(1600))), room: 0 };
}

export function balloonRequest(random: Random): Request {
  const queue = random.below(4);
  const pages = Array.from({ length: random.below(20) }, () =>
    build(4, (view) => view.setUint32(0, number(random, 300), true)),
  );
  return {
    queue,
    out: queue === 3 ? bytes(random, 0) : concat(...pages),
    room: queue === 3 ? 4096 * random.below(3) : 0,
  };
}

export function vsockRequest(random: Random): Request {
  const queue = random.pick([0, 1, 1, 1, 2]);
  if (queue !== 1) return { queue, out: bytes(random, 0), room: random.below(300) };
  const data = bytes(random, random.chance(0.5) ? 0 : random.below(300));
  const header = build(44, (view) => {
    view.setBigUint64(0, BigInt(random.chance(0.97) ? 7 : random.u32()), true);
    view.setBigUint64(8, BigInt(random.chance(0.97) ? 2 : random.u32()), true);
    view.setUint32(16, number(random, 20), true);
    view.setUint32(20, number(random, 4), true);
    view.setUint32(24, random.chance(0.95) ? data.length : random.u32(), true);
    view.setUint16(28, random.chance(0.97) ? 1 : random.u32(), true);
    view.setUint16(30, random.chance(0.9) ? random.pick([1, 3, 4, 5, 5, 5, 6, 7]) : random.u32(), true);
    view.setUint32(32, random.below(4), true);
    view.setUint32(36, number(random, 65536), true);
    view.setUint32(40, number(random, 1000), true);
  });
  return { queue, out: concat(header, data), room: 0 };
}

const NAMES = ["a", "b", "link", "folder", "..", ".", "", "a/b", "\0", "long".repeat(70), "../../etc/passwd"];

export function p9Request(random: Random): Request {
  const type = random.chance(0.97) ? random.pick(Object.values(Message)) : random.below(256);
  const fid = () => (random.chance(0.95) ? random.below(6) : random.u32());
  const name = () => random.pick(NAMES);
  const any = () => number(random, 10);
  const fields = new FieldWriter();
  const data = bytes(random, type === Message.WRITE ? random.below(200) : 0);
  switch (type) {
    case Message.VERSION:
      fields.u32(random.chance(0.8) ? 8192 : random.u32()).string(random.pick(["9P2000.L", "9P2000", ""]));
      break;
    case Message.ATTACH:
      fields
        .u32(fid())
        .u32(random.chance(0.9) ? NO_FID : any())
        .string("u")
        .string("/")
        .u32(0);
      break;
    case Message.WALK: {
      const names = Array.from({ length: random.below(4) }, name);
      fields
        .u32(fid())
        .u32(fid())
        .u16(random.chance(0.97) ? names.length : random.below(30));
      for (const one of names) fields.string(one);
      break;
    }
    case Message.READ:
    case Message.READDIR:
      fields
        .u32(fid())
        .u64(random.chance(0.8) ? random.below(20) : BigInt(random.u32()) << 32n)
        .u32(number(random, 2000));
      break;
    case Message.WRITE:
      fields
        .u32(fid())
        .u64(random.below(1000))
        .u32(random.chance(0.9) ? data.length : random.u32());
      break;
    case Message.LCREATE:
      fields.u32(fid()).string(name()).u32(random.below(0o10000)).u32(0o600).u32(0);
      break;
    case Message.SETATTR:
      // Not the size: a sparse file of any length would still be a surprise on the tester's disk.
      fields
        .u32(fid())
        .u32(random.below(512) & ~8)
        .u32(random.below(0o10000))
        .u32(0)
        .u32(0);
      for (let index = 0; index < 5; index++) fields.u64(random.below(2000));
      break;
    case Message.SYMLINK:
      fields.u32(fid()).string(name()).string(name()).u32(0);
      break;
    case Message.MKNOD:
      fields.u32(fid()).string(name()).u32(random.below(0x10000)).u32(0).u32(0).u32(0);
      break;
    case Message.RENAME:
      fields.u32(fid()).u32(fid()).string(name());
      break;
    case Message.RENAMEAT:
      fields.u32(fid()).string(name()).u32(fid()).string(name());
      break;
    case Message.LINK:
      fields.u32(fid()).u32(fid()).string(name());
      break;
    case Message.MKDIR:
      fields.u32(fid()).string(name()).u32(0o755).u32(0);
      break;
    case Message.UNLINKAT:
      fields
        .u32(fid())
        .string(name())
        .u32(random.pick([0, 0x200]));
      break;
    case Message.FLUSH:
      fields.u16(random.below(8));
      break;
    default:
      fields
        .u32(fid())
        .u32(any())
        .u64(random.below(0x800))
        .bytes(bytes(random, random.below(20)));
  }
  const message = fields.finish(type, random.below(8), data.length);
  const out = concat(message, data);
  if (random.chance(0.02)) out[random.below(4)] = random.u32();
  return { queue: 0, out, room: random.chance(0.95) ? 4096 : random.below(64) };
}

/** A FUSE request: words at random behind a header, as most fixed parts are, then names or data. */
export function fsRequest(random: Random): Request {
  const opcode = random.chance(0.97) ? random.pick(Object.values(Opcode)) : random.below(64);
  const fixed = build(8 * random.pick([0, 1, 1, 2, 5, 11]), (view) => {
    for (let at = 0; at < view.byteLength; at += 8) view.setUint32(at, number(random, 9), true);
    // Not the size: a sparse file of any length would still be a surprise on the tester's disk.
    if (opcode === Opcode.SETATTR && view.byteLength > 0) view.setUint32(0, random.below(512) & ~8, true);
    if (opcode === Opcode.WRITE && view.byteLength === 40) view.setUint32(8, random.below(1000), true);
    if (view.byteLength === 40) view.setUint32(16, number(random, 200), true);
  });
  const names = Array.from({ length: random.below(3) }, () => Buffer.from(`${random.pick(NAMES)}\0`));
  const body = concat(fixed, ...names, bytes(random, random.chance(0.2) ? random.below(200) : 0));
  const header = build(Header.BYTES, (view) => {
    view.setUint32(Header.LENGTH, random.chance(0.95) ? Header.BYTES + body.length : random.u32(), true);
    view.setUint32(Header.OPCODE, opcode, true);
    view.setUint32(Header.NODE, random.chance(0.95) ? 1 + random.below(6) : random.u32(), true);
  });
  const cut = random.chance(0.97) ? Header.BYTES : random.below(Header.BYTES);
  const room = random.chance(0.9) ? 16 + random.below(4096) : random.below(20);
  return { queue: random.below(2), out: concat(header.subarray(0, cut), body), room };
}
