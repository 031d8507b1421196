/** Pseudo terminals (pty(7)): a terminal whose other end is this program. */

import { readSync, writeSync } from "node:fs";
import { watchReadable } from "./events.ts";
import { Descriptor, OpenFlag, open } from "./file.ts";
import { ioctl, ior, iow } from "./ioctl.ts";

/** asm-generic/ioctls.h. */
export const TerminalRequest = {
  TCGETS: 0x5401,
  TCSETS: 0x5402,
  TIOCGPTN: ior(0x54, 0x30, 4),
  TIOCSPTLCK: iow(0x54, 0x31, 4),
} as const;

/** struct termios as the kernel has it (asm-generic/termbits.h): u32 each, then more that we leave alone. */
export const Termios = { INPUT: 0, OUTPUT: 4, CONTROL: 8, LOCAL: 12 } as const;
/** The kernel's has 36 bytes. */
const TERMIOS_BYTES = 64;

/** What cfmakeraw(3) changes. */
export const RawMode = {
  INPUT_OFF: 0o2753,
  OUTPUT_OFF: 0o1,
  CONTROL_OFF: 0o460,
  CONTROL_ON: 0o60,
  LOCAL_OFF: 0o100113,
} as const;

const CHUNK = 4096;

/** Raw, and open for whoever opens {@link path}, as often as they like. */
export class PseudoTerminal extends Descriptor {
  /** The terminal's device: /dev/pts/N. */
  readonly path: string;
  /** Ours, so that there always is somebody: reading would fail otherwise, and modes would be forgotten. */
  readonly #terminal: number;
  readonly #chunk = Buffer.alloc(CHUNK);
  #watch: Disposable | undefined;

  constructor() {
    super(open("/dev/ptmx", OpenFlag.RDWR | OpenFlag.NOCTTY | OpenFlag.NONBLOCK | OpenFlag.CLOEXEC));
    using undo = new DisposableStack();
    undo.defer(() => super.close());
    const number = new Int32Array(1);
    ioctl(this.fd, TerminalRequest.TIOCSPTLCK, number, "TIOCSPTLCK");
    ioctl(this.fd, TerminalRequest.TIOCGPTN, number, "TIOCGPTN");
    this.path = `/dev/pts/${number[0]}`;
    this.#terminal = open(this.path, OpenFlag.RDWR | OpenFlag.NOCTTY | OpenFlag.CLOEXEC);
    undo.use(new Descriptor(this.#terminal));
    makeRaw(this.#terminal);
    undo.move();
  }

  /** Calls back on this thread's event loop with what is written on the terminal. */
  watch(callback: (bytes: Uint8Array) => void): Disposable {
    this.#watch = watchReadable(this.fd, () => {
      const length = readSync(this.fd, this.#chunk);
      if (length > 0) callback(Uint8Array.from(this.#chunk.subarray(0, length)));
    });
    return this.#watch;
  }

  /** Writes for whoever reads there; returns how many bytes there was room for. A terminal that nobody reads fills up. */
  write(bytes: Uint8Array): number {
    try {
      return bytes.length === 0 ? 0 : writeSync(this.fd, bytes);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EAGAIN") return 0;
      throw error;
    }
  }

  override close(): void {
    this.#watch?.[Symbol.dispose]();
    new Descriptor(this.#terminal).close();
    super.close();
  }
}

function makeRaw(fd: number): void {
  const termios = new DataView(new ArrayBuffer(TERMIOS_BYTES));
  ioctl(fd, TerminalRequest.TCGETS, termios, "TCGETS");
  const change = (at: number, off: number, on = 0) =>
    termios.setUint32(at, (termios.getUint32(at, true) & ~off) | on, true);
  change(Termios.INPUT, RawMode.INPUT_OFF);
  change(Termios.OUTPUT, RawMode.OUTPUT_OFF);
  change(Termios.CONTROL, RawMode.CONTROL_OFF, RawMode.CONTROL_ON);
  change(Termios.LOCAL, RawMode.LOCAL_OFF);
  ioctl(fd, TerminalRequest.TCSETS, termios, "TCSETS");
}
