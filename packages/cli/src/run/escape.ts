/** The keys by which somebody at a raw terminal reaches us instead of the guest: Ctrl-A and one more, as QEMU has them. */

const CTRL_A = 0x01;

export const ESCAPE_HELP = "Ctrl-A x ends the machine, Ctrl-A Ctrl-A sends Ctrl-A, Ctrl-A h shows this";

export interface Typed {
  /** What the guest gets. */
  readonly forward: Uint8Array;
  readonly command: "quit" | "help" | undefined;
}

export class EscapeKeys {
  #armed = false;

  /** Takes what was typed, cut wherever; what stands behind a command is dropped. */
  feed(bytes: Uint8Array): Typed {
    const forward: number[] = [];
    for (const byte of bytes) {
      if (!this.#armed) {
        if (byte === CTRL_A) this.#armed = true;
        else forward.push(byte);
        continue;
      }
      this.#armed = false;
      const key = String.fromCharCode(byte).toLowerCase();
      if (key === "x") return { forward: Uint8Array.from(forward), command: "quit" };
      if (key === "h" || key === "?") return { forward: Uint8Array.from(forward), command: "help" };
      // A key that means nothing to us is the guest's, and so is the second Ctrl-A (or an a, as QEMU has it).
      if (byte === CTRL_A || key === "a") forward.push(CTRL_A);
      else forward.push(CTRL_A, byte);
    }
    return { forward: Uint8Array.from(forward), command: undefined };
  }
}
