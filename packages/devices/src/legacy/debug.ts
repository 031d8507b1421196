/** Ports by which test kernels and firmware speak to the machine: QEMU's isa-debug-exit, debugcon and pc-testdev. */

import { SharedLock } from "@lodge/kvm";
import { ByteRing } from "../byte-ring.ts";
import { ByteRegisters, type InterruptLine, type Registers } from "../registers.ts";

/** isa-debug-exit: a write ends the machine; QEMU's process ends with `(value << 1) | 1`. */
export class DebugExit implements Registers {
  static readonly PORTS = 4;
  readonly #exit: (status: number) => void;

  constructor(exit: (status: number) => void) {
    this.#exit = exit;
  }

  read(): number {
    return 0;
  }

  write(_offset: number, _size: number, value: number): void {
    // A process's status has eight bits.
    this.#exit(((value << 1) | 1) & 0xff);
  }
}

const TOLD = 0;
const LOCK = 1;
const RING_AT = 8;
/** How long a vCPU waits for a host that is behind. */
const PATIENCE_MS = 1000;

/** The debug console at port 0xe9, of Bochs's invention: what is written there goes to the host; a read says that it is there. */
export class DebugConsole extends ByteRegisters {
  static readonly #PRESENT = 0xe9;
  static readonly #OUTPUT_BYTES = 65536;
  readonly #words: Int32Array;
  readonly #lock: SharedLock;
  readonly #output: ByteRing;
  readonly #wakeHost: () => void;
  /** The host did not come; until it does, nobody waits again. */
  #isAlone = false;

  static create(): SharedArrayBuffer {
    return new SharedArrayBuffer(RING_AT + ByteRing.bytesFor(DebugConsole.#OUTPUT_BYTES));
  }

  constructor(shared: SharedArrayBuffer, wakeHost: () => void) {
    super();
    this.#words = new Int32Array(shared, 0, 2);
    this.#lock = new SharedLock(this.#words, LOCK);
    this.#output = new ByteRing(shared, RING_AT, DebugConsole.#OUTPUT_BYTES);
    this.#wakeHost = wakeHost;
  }

  /** The host's side: what was written since the last time. */
  take(): Uint8Array {
    Atomics.store(this.#words, TOLD, 0);
    const bytes = this.#output.take();
    Atomics.notify(this.#words, TOLD);
    return bytes;
  }

  protected readByte(): number {
    return DebugConsole.#PRESENT;
  }

  protected writeByte(_offset: number, value: number): void {
    this.#lock.acquire();
    this.#put(value);
    this.#lock.release();
    if (Atomics.exchange(this.#words, TOLD, 1) === 0) this.#wakeHost();
  }

  /** A guest cannot be told that the host is behind: it waits. What a host that does not come has no room for is lost. */
  #put(value: number): void {
    while (!this.#output.putByte(value)) {
      if (this.#isAlone) return;
      this.#isAlone = Atomics.wait(this.#words, TOLD, 1, PATIENCE_MS) === "timed-out";
    }
    this.#isAlone = false;
  }
}

/** Port offsets of {@link TestDevice} from its base. */
const TestPort = { IO: 0, FLUSH: 4 } as const;

/**
 * pc-testdev, as kvm-unit-tests use it. At 0xe0, four ports keep what was written to them; at 0xe4, a write unmaps the page
 * that it names for a moment, which changes nothing here. {@link TestDeviceLines} and {@link TestDeviceMemory} are its
 * other parts.
 */
export class TestDevice implements Registers {
  static readonly PORTS = 8;
  readonly #word: DataView;

  constructor(shared: SharedArrayBuffer) {
    this.#word = new DataView(shared, 0, 4);
  }

  read(offset: number, size: number): number {
    return offset < TestPort.FLUSH ? readBytes(this.#word, offset, Math.min(size, TestPort.FLUSH - offset)) : 0;
  }

  write(offset: number, size: number, value: number): void {
    if (offset < TestPort.FLUSH) writeBytes(this.#word, offset, Math.min(size, TestPort.FLUSH - offset), value);
  }
}

/** pc-testdev's ports 0x2000 to 0x2017: a write sets the level of the IOAPIC's pin of that number. */
export class TestDeviceLines implements Registers {
  readonly #lines: readonly InterruptLine[];

  constructor(lines: readonly InterruptLine[]) {
    this.#lines = lines;
  }

  read(): number {
    return 0;
  }

  write(offset: number, _size: number, value: number): void {
    this.#lines[offset]?.set(value !== 0);
  }
}

/** pc-testdev's 64 KiB of memory at 0xff000000 that are reached by exits only. */
export class TestDeviceMemory implements Registers {
  static readonly BYTES = 65536;
  readonly #view: DataView;

  constructor(shared: SharedArrayBuffer) {
    this.#view = new DataView(shared);
  }

  read(offset: number, size: number): number {
    return readBytes(this.#view, offset, Math.min(size, this.#view.byteLength - offset));
  }

  write(offset: number, size: number, value: number): void {
    writeBytes(this.#view, offset, Math.min(size, this.#view.byteLength - offset), value);
  }
}

function readBytes(view: DataView, offset: number, size: number): number {
  let value = 0;
  for (let byte = 0; byte < size; byte++) value |= view.getUint8(offset + byte) << (8 * byte);
  return value >>> 0;
}

function writeBytes(view: DataView, offset: number, size: number, value: number): void {
  for (let byte = 0; byte < size; byte++) view.setUint8(offset + byte, value >>> (8 * byte));
}
