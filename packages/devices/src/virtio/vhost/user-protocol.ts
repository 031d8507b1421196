/**
 * Messages of vhost-user, by which another process serves the rings of a virtio device (QEMU's docs/interop/vhost-user.rst). This
 * is the front end's side. Left out: logs of what is written, transfers of a peer's state, and slots of memory, since a
 * machine's memory is there as a whole from its start on.
 */

import type { RamPiece } from "../../ram.ts";

export const Request = {
  GET_FEATURES: 1,
  SET_FEATURES: 2,
  SET_OWNER: 3,
  SET_MEM_TABLE: 5,
  SET_VRING_NUM: 8,
  SET_VRING_ADDR: 9,
  SET_VRING_BASE: 10,
  GET_VRING_BASE: 11,
  SET_VRING_KICK: 12,
  SET_VRING_CALL: 13,
  GET_PROTOCOL_FEATURES: 15,
  SET_PROTOCOL_FEATURES: 16,
  GET_QUEUE_NUM: 17,
  SET_VRING_ENABLE: 18,
  SEND_RARP: 19,
  NET_SET_MTU: 20,
} as const;
export type Request = (typeof Request)[keyof typeof Request];

/** Every message: u32 request, u32 flags, u32 size of what follows. */
export const Header = { REQUEST: 0, FLAGS: 4, SIZE: 8, LENGTH: 12 } as const;
export const Flags = { VERSION: 1, VERSION_MASK: 3, REPLY: 4, NEED_REPLY: 8 } as const;

/** Among the device's own feature bits: there are {@link ProtocolFeature}s. */
export const PROTOCOL_FEATURES = 1n << 30n;
export const ProtocolFeature = { MQ: 1n << 0n, RARP: 1n << 2n, REPLY_ACK: 1n << 3n, NET_MTU: 1n << 4n } as const;
export const OUR_PROTOCOL_FEATURES =
  ProtocolFeature.MQ | ProtocolFeature.RARP | ProtocolFeature.REPLY_ACK | ProtocolFeature.NET_MTU;

export function message(request: Request, payload: Uint8Array, needReply: boolean): Uint8Array {
  const bytes = new Uint8Array(Header.LENGTH + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(Header.REQUEST, request, true);
  view.setUint32(Header.FLAGS, Flags.VERSION | (needReply ? Flags.NEED_REPLY : 0), true);
  view.setUint32(Header.SIZE, payload.length, true);
  bytes.set(payload, Header.LENGTH);
  return bytes;
}

export function u64(value: bigint): Uint8Array {
  return fields([value]);
}

/** Of one ring: which, and a number. */
export function vringState(queue: number, value: number): Uint8Array {
  return fields([queue, value]);
}

/** Where a ring's parts are among our process's addresses, which {@link memoryTable} explains. */
export function vringAddress(
  queue: number,
  { descriptors, used, available }: { descriptors: number; used: number; available: number },
): Uint8Array {
  const noLog = 0n;
  return fields([queue, 0, BigInt(descriptors), BigInt(used), BigInt(available), noLog]);
}

/**
 * All of the guest's memory: for each piece its guest physical address, size, our address, and its place in the file; the kernel's
 * table has 0 there.
 */
export function memoryTable(
  { pieces, address }: { readonly pieces: readonly RamPiece[]; readonly address: number },
  inFile: boolean,
): Uint8Array {
  const regions = pieces.flatMap(({ gpa, sizeBytes, offset }) => [
    BigInt(gpa),
    BigInt(sizeBytes),
    BigInt(address + offset),
    inFile ? BigInt(offset) : 0n,
  ]);
  return fields([pieces.length, 0, ...regions]);
}

/** Numbers as u32, bigints as u64. */
function fields(values: readonly (number | bigint)[]): Uint8Array {
  const length = values.reduce<number>((sum, value) => sum + (typeof value === "number" ? 4 : 8), 0);
  const view = new DataView(new ArrayBuffer(length));
  let at = 0;
  for (const value of values) {
    if (typeof value === "number") view.setUint32(at, value, true);
    else view.setBigUint64(at, value, true);
    at += typeof value === "number" ? 4 : 8;
  }
  return new Uint8Array(view.buffer);
}
