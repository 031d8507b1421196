/**
 * Exceptions, interrupts and NMIs from the moment that they are due: delivery, and what becomes of faults during it
 * (Intel SDM vol. 3, 6.15: double fault, triple fault).
 *
 * The instruction pointers tell where handlers return to: `cpu.instructionRip` for faults, `cpu.rip` (the next
 * instruction) for traps and interrupts. At an instruction boundary both are the same.
 */

import { NO_FAULT, State, Vector } from "../cpu/layout.ts";
import { deliverOnce, type Event } from "./delivery.ts";
import type { PendingException } from "./event-state.ts";
import { GUEST_FAULT } from "./faults.ts";
import type { Processor } from "./processor.ts";
import { DR6, DR7 } from "./regs.ts";

/** Vectors that push an error code in protected mode (6.15). */
const WITH_ERROR = new Set<number>([Vector.DF, Vector.TS, Vector.NP, Vector.SS, Vector.GP, Vector.PF, Vector.AC]);
/** Those whose RFLAGS image has RF clear: traps, aborts, and the debug exception, which decides for itself. */
const WITHOUT_RESUME = new Set<number>([Vector.DB, Vector.NMI, Vector.BP, Vector.OF, Vector.DF, Vector.MC]);
/** Faults that make a double fault of a second one (table 6-4). */
const CONTRIBUTORY = new Set<number>([Vector.DE, Vector.TS, Vector.NP, Vector.SS, Vector.GP]);

/** DR7.GD: general detect. */
const GENERAL_DETECT = 1 << 13;

/** Takes the exception that the running instruction recorded: it is the vCPU's pending one now. */
export function takeFault(cpu: Processor): void {
  const { state } = cpu;
  const vector = state.get32(State.faultVector);
  if (vector >>> 0 === NO_FAULT >>> 0) return;
  state.set32(State.faultVector, NO_FAULT);
  cpu.events.exception = {
    vector,
    error: WITH_ERROR.has(vector) ? state.get32(State.faultError) : undefined,
    payload: vector === Vector.PF ? state.get64(State.faultAddress) : undefined,
    soft: false,
  };
}

/** Takes the exception that the running instruction recorded, and delivers it: false after a triple fault. */
export function deliverFault(cpu: Processor): boolean {
  const { state } = cpu;
  const vector = state.get32(State.faultVector);
  // Nothing else waits, and what waits has no payload but CR2.
  if (cpu.events.exception === undefined && vector !== Vector.DB) {
    const error = WITH_ERROR.has(vector) ? state.get32(State.faultError) : -1;
    if (cpu.hooks.deliverQuickly(vector, error, State.instructionRip, !WITHOUT_RESUME.has(vector))) {
      if (vector === Vector.PF) state.copy64(State.cr2, State.faultAddress);
      state.set32(State.faultVector, NO_FAULT);
      return true;
    }
  }
  takeFault(cpu);
  return deliverPending(cpu);
}

/**
 * Delivers the pending exception, if there is one, and what its delivery raises. False after a triple fault. Where the
 * monitor has to be asked ({@link GUEST_EXIT} is thrown), the exception stays pending.
 */
export function deliverPending(cpu: Processor): boolean {
  for (;;) {
    const { exception } = cpu.events;
    if (exception === undefined) return true;
    applyPayload(cpu, exception);
    const event: Event = {
      vector: exception.vector,
      error: exception.error,
      returnRip: exception.soft || exception.vector === Vector.DB ? cpu.rip : cpu.instructionRip,
      soft: exception.soft,
      resume: !WITHOUT_RESUME.has(exception.vector),
    };
    const next = attempt(cpu, event);
    if (next === undefined) {
      arrived(cpu);
      // The trap flag of a task that was switched to makes a new one.
      if (cpu.events.exception === exception) cpu.events.exception = undefined;
    } else if (!escalate(cpu, exception, next)) return false;
  }
}

/** Delivers an external interrupt. False after a triple fault. */
export function deliverInterrupt(cpu: Processor, vector: number): boolean {
  if (cpu.events.exception === undefined && cpu.hooks.deliverQuickly(vector, -1, State.rip, false)) {
    cpu.events.interrupt = -1;
    return true;
  }
  cpu.events.interrupt = vector;
  cpu.events.interruptSoft = false;
  return deliverAside(cpu, { vector, error: undefined, returnRip: cpu.rip, soft: false, resume: false });
}

/** Delivers an NMI; further ones are held until IRET. */
export function deliverNmi(cpu: Processor): boolean {
  cpu.events.nmiInjected = true;
  cpu.events.nmiMasked = true;
  return deliverAside(cpu, { vector: Vector.NMI, error: undefined, returnRip: cpu.rip, soft: false, resume: false });
}

/** INT n, INT3 and INTO: within the instruction, whose faults are those of the delivery. INT1 is no soft one. */
export function deliverSoft(cpu: Processor, vector: number, soft: boolean): void {
  deliverOnce(cpu, { vector, error: undefined, returnRip: cpu.rip, soft, resume: false });
}

/** What is no exception: a fault during its delivery comes in its place. */
function deliverAside(cpu: Processor, event: Event): boolean {
  const fault = attempt(cpu, event);
  cpu.events.interrupt = -1;
  cpu.events.nmiInjected = false;
  if (fault === undefined) arrived(cpu);
  else cpu.events.exception = fault;
  return deliverPending(cpu);
}

/** Tries a delivery. Returns the fault that it met; the exception that is being delivered stays pending. */
function attempt(cpu: Processor, event: Event): PendingException | undefined {
  try {
    deliverOnce(cpu, event);
    return undefined;
  } catch (error) {
    if (error !== GUEST_FAULT) throw error;
    const delivered = cpu.events.exception;
    takeFault(cpu);
    const fault = cpu.events.exception;
    cpu.events.exception = delivered;
    return fault;
  }
}

/** After a fault during the delivery of an exception. False: it was the third. */
function escalate(cpu: Processor, first: PendingException, next: PendingException): boolean {
  if (first.vector === Vector.DF && (CONTRIBUTORY.has(next.vector) || next.vector === Vector.PF)) {
    cpu.events.exception = undefined;
    cpu.events.tripleFault = true;
    cpu.hooks.tripleFault();
    return false;
  }
  const isDouble =
    (CONTRIBUTORY.has(first.vector) && CONTRIBUTORY.has(next.vector)) ||
    (first.vector === Vector.PF && (CONTRIBUTORY.has(next.vector) || next.vector === Vector.PF));
  // The second fault was real, too: it leaves its address.
  if (isDouble) applyPayload(cpu, next);
  cpu.events.exception = isDouble ? { vector: Vector.DF, error: 0, payload: undefined, soft: false } : next;
  return true;
}

/** CR2 and DR6 change when the exception is delivered; KVM calls it the payload. */
function applyPayload(cpu: Processor, exception: PendingException): void {
  const { payload, vector } = exception;
  if (payload === undefined) return;
  if (vector === Vector.PF) cpu.state.set64(State.cr2, payload);
  if (vector === Vector.DB) {
    // B0 to B3 are replaced, the others collect; RTM (bit 16) is inverted (17.2.3).
    const collected = (cpu.state.get64(DR6) & ~0xfn) | payload;
    cpu.state.set64(DR6, collected ^ (payload & (1n << 16n)));
    cpu.state.set32(DR7, cpu.state.get32(DR7) & ~GENERAL_DETECT);
  }
  exception.payload = undefined;
}

/** The guest is in the handler: its first instruction is the current one. */
function arrived(cpu: Processor): void {
  cpu.state.copy64(State.instructionRip, State.rip);
}
