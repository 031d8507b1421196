/** A file of frames as tcpdump and Wireshark read it: pcap with nanoseconds (draft-ietf-opsawg-pcap). */

import { closeSync, openSync, writeSync } from "node:fs";
import { NetworkError } from "../errors.ts";

const MAGIC_NANOSECONDS = 0xa1b23c4d;
const LINKTYPE_ETHERNET = 1;
/** An IP packet of 64 KiB with Ethernet's header fits. */
const SNAP_LENGTH = 262_144;
const FILE_HEADER = 24;
const RECORD_HEADER = 16;

/** What a capture begins with. */
export function pcapHeader(): Uint8Array {
  const header = new DataView(new ArrayBuffer(FILE_HEADER));
  header.setUint32(0, MAGIC_NANOSECONDS, true);
  header.setUint16(4, 2, true);
  header.setUint16(6, 4, true);
  header.setUint32(16, SNAP_LENGTH, true);
  header.setUint32(20, LINKTYPE_ETHERNET, true);
  return new Uint8Array(header.buffer);
}

/** A frame of now. */
export function pcapRecord(frame: Uint8Array): Uint8Array {
  // `performance` has the precision, its origin the date.
  const now = performance.timeOrigin + performance.now();
  const bytes = new Uint8Array(RECORD_HEADER + frame.length);
  const header = new DataView(bytes.buffer, 0, RECORD_HEADER);
  header.setUint32(0, now / 1000, true);
  header.setUint32(4, (now % 1000) * 1e6, true);
  header.setUint32(8, frame.length, true);
  header.setUint32(12, frame.length, true);
  bytes.set(frame, RECORD_HEADER);
  return bytes;
}

export class PcapFile implements Disposable {
  readonly path: string;
  readonly #fd: number;
  /** The first write that failed: the disk is full, say. Nothing is written after it. */
  failure: Error | undefined;

  /** Makes the file anew; whoever looks may read it while it grows. */
  constructor(path: string) {
    this.path = path;
    try {
      this.#fd = openSync(path, "w", 0o600);
    } catch (error) {
      const { message } = error as Error;
      throw new NetworkError("NETWORK_HOST", `pcap ${path}: ${message}`, { cause: error });
    }
    this.#write(pcapHeader());
  }

  record(frame: Uint8Array): void {
    this.#write(pcapRecord(frame));
  }

  #write(bytes: Uint8Array): void {
    if (this.failure !== undefined) return;
    try {
      writeSync(this.#fd, bytes);
    } catch (error) {
      this.failure = error as Error;
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}
