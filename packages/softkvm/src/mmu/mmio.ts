/**
 * Accesses to what is not memory: guest physical holes, writes to read-only slots, and ports.
 *
 * The monitor answers outside of the processor, so an instruction that makes such an access is abandoned before it has
 * changed anything, the vCPU exits with the request, and with the answer the instruction is executed again from its
 * beginning. The log gives each access of that instruction, in its order, what was answered already: reads their
 * values, writes nothing, as they were performed. An instruction may need several rounds.
 *
 * The vCPU calls {@link Mmio.restart} before it executes the instruction again, and {@link Mmio.clear} when it has
 * completed or faulted. Until then no interrupt is delivered.
 */

/** What answers in the vCPU's own thread: the local APIC's page, IOAPIC, doorbells. */
export interface LocalMmio {
  /** The page that is the processor's own even where a slot has memory, the local APIC's; -1 for none. */
  readonly page: number;
  /** The value of a register, or undefined when this is none of theirs. `size` is 1 to 8 bytes. */
  read(gpa: number, size: number): bigint | undefined;
  /** False when this is none of theirs. */
  write(gpa: number, size: number, value: bigint): boolean;
}

export const Bus = { MEMORY: 0, PORT: 1 } as const;
export type Bus = (typeof Bus)[keyof typeof Bus];

/** One access that the monitor performs. */
export interface BusRequest {
  readonly bus: Bus;
  /** A guest physical address, or a port. */
  readonly address: number;
  /** Bytes: 1 to 8 of memory, 1, 2 or 4 of a port; each element's, where there are several. */
  readonly size: number;
  readonly isWrite: boolean;
  /** Elements of a string instruction on a port; else 1. */
  readonly count: number;
  /** What is written; for a read, where the answer is put: `size * count` bytes. */
  readonly data: Uint8Array<ArrayBuffer>;
}

export class Mmio {
  /** What waits for the monitor. It fills the data of a read, then calls {@link answered}. */
  pending: BusRequest | undefined;
  readonly #local: LocalMmio;
  /** Answered requests of the instruction, and how many of them its current execution has come by. */
  #log: BusRequest[] = [];
  #next = 0;

  constructor(local: LocalMmio) {
    this.#local = local;
  }

  /** Whether an instruction waits to be executed again with what was answered. */
  get replaying(): boolean {
    return this.#log.length > 0;
  }

  /** {@link LocalMmio.page}. */
  get localPage(): number {
    return this.#local.page;
  }

  /** Reads up to 8 bytes: undefined when the monitor has to be asked, and {@link pending} is set. */
  read(gpa: number, size: number): bigint | undefined {
    if (this.#log.length === this.#next) {
      const value = this.#local.read(gpa, size);
      if (value !== undefined) return value;
    }
    const answer = this.request(Bus.MEMORY, gpa, size, false, 1);
    return answer === undefined ? undefined : littleEndian(answer);
  }

  /** Writes up to 8 bytes: false when the monitor has to be asked. */
  write(gpa: number, size: number, value: bigint): boolean {
    if (this.#log.length === this.#next && this.#local.write(gpa, size, value)) return true;
    const data = new Uint8Array(size);
    for (let index = 0; index < size; index++) data[index] = Number((value >> BigInt(index * 8)) & 0xffn);
    return this.request(Bus.MEMORY, gpa, size, true, 1, data) !== undefined;
  }

  /** The data of an access that was answered, or undefined: then it is pending now. */
  request(
    bus: Bus,
    address: number,
    size: number,
    isWrite: boolean,
    count: number,
    data: Uint8Array<ArrayBuffer> = new Uint8Array(size * count),
  ): Uint8Array<ArrayBuffer> | undefined {
    const logged = this.#log[this.#next];
    if (logged !== undefined) {
      const same =
        logged.bus === bus &&
        logged.address === address &&
        logged.size === size &&
        logged.isWrite === isWrite &&
        logged.count === count;
      if (same) {
        this.#next++;
        return logged.data;
      }
      // Another processor changed the page tables or the code meanwhile: this is not the access that was answered.
      this.#log.length = this.#next;
    }
    this.pending = { bus, address, size, isWrite, count, data };
    return undefined;
  }

  /** The monitor has performed {@link pending}. */
  answered(): void {
    if (this.pending === undefined) return;
    this.#log.push(this.pending);
    this.pending = undefined;
  }

  /** The instruction begins again. */
  restart(): void {
    this.#next = 0;
  }

  /** The instruction is over, or the guest's state was replaced: answers count no more. */
  clear(): void {
    if (this.#log.length > 0) this.#log = [];
    this.#next = 0;
    this.pending = undefined;
  }
}

function littleEndian(data: Uint8Array): bigint {
  let value = 0n;
  for (let index = data.length - 1; index >= 0; index--) value = (value << 8n) | BigInt(data[index]!);
  return value;
}
