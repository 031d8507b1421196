/** Ports that are read and written in the middle of an instruction, by calls from WebAssembly (`interpreter/outside.ts`). */

import type { ProcessorHooks } from "../system/processor.ts";

export interface PortUser {
  readonly hooks: Pick<ProcessorHooks, "readPort" | "writePort">;
  /** The monitor has answered, and the instruction is done once more: microcode takes the answer over. */
  isReplaying(): boolean;
  /** An access is over: what it raised is looked at at the next jump. */
  over(): void;
}

export class Ports {
  readonly #user: PortUser;
  #thrown: { readonly error: unknown } | undefined;

  constructor(user: PortUser) {
    this.#user = user;
  }

  /** -1 where microcode has to ask. */
  read(port: number, size: number): number {
    if (this.#user.isReplaying()) return -1;
    try {
      return this.#user.hooks.readPort(port, size, 1) ?? -1;
    } catch (error) {
      this.#thrown = { error };
      return -1;
    } finally {
      this.#user.over();
    }
  }

  /** 0 where microcode has to ask. */
  write(port: number, size: number, value: number): number {
    if (this.#user.isReplaying()) return 0;
    try {
      return this.#user.hooks.writePort(port, size, value >>> 0, 1) ? 1 : 0;
    } catch (error) {
      this.#thrown = { error };
      return 0;
    } finally {
      this.#user.over();
    }
  }

  /** Throws what an access has thrown; microcode calls it, as it knows where the guest is. */
  rethrow(): void {
    if (this.#thrown === undefined) return;
    const { error } = this.#thrown;
    this.#thrown = undefined;
    throw error;
  }
}
