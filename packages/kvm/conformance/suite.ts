/** The conformance suite: every group of cases, and how one case is run. */

import type { Case, Group } from "./case.ts";
import { clock } from "./cases/clock.ts";
import { cpuid } from "./cases/cpuid.ts";
import { debug } from "./cases/debug.ts";
import { dirtyLog } from "./cases/dirty-log.ts";
import { dirtyRing } from "./cases/dirty-ring.ts";
import { doorbells } from "./cases/doorbells.ts";
import { exceptions } from "./cases/exceptions.ts";
import { hypercalls } from "./cases/hypercalls.ts";
import { injection } from "./cases/injection.ts";
import { interrupts } from "./cases/interrupts.ts";
import { kick } from "./cases/kick.ts";
import { lifetime } from "./cases/lifetime.ts";
import { memory } from "./cases/memory.ts";
import { messages } from "./cases/messages.ts";
import { mmio } from "./cases/mmio.ts";
import { modes } from "./cases/modes.ts";
import { msr } from "./cases/msr.ts";
import { pageFaults } from "./cases/page-faults.ts";
import { pio } from "./cases/pio.ts";
import { registers } from "./cases/registers.ts";
import { rings } from "./cases/rings.ts";
import { smp } from "./cases/smp.ts";
import { state } from "./cases/state.ts";
import { stops } from "./cases/stops.ts";
import { timers } from "./cases/timers.ts";
import { CheckFailed, Unsupported } from "./check.ts";
import { Context } from "./context.ts";
import type { Guest } from "./guest.ts";
import type { Session } from "./session.ts";

export const suite: readonly Group[] = [
  pio,
  mmio,
  stops,
  modes,
  exceptions,
  pageFaults,
  injection,
  interrupts,
  messages,
  timers,
  doorbells,
  memory,
  dirtyLog,
  dirtyRing,
  debug,
  kick,
  smp,
  registers,
  state,
  cpuid,
  msr,
  clock,
  rings,
  hypercalls,
  lifetime,
];

/** Every guest of the suite, for assembling them ahead. */
export function allGuests(): Guest[] {
  return suite.flatMap((group) =>
    group.cases.flatMap(({ guest, guests = {} }) => [
      ...(guest === undefined ? [] : [guest]),
      ...Object.values(guests),
    ]),
  );
}

/**
 * How long a case may take that says nothing else. None comes near it, on any host; it is there for guests that never stop.
 */
export const LIMIT_MS = 120_000;

/** Runs one case. Returns why it is skipped, if it is; throws when it fails. */
export async function runCase(
  one: Case,
  session: Session,
  limitMs: number = one.limitMs?.(session.host) ?? LIMIT_MS,
): Promise<string | undefined> {
  const reason = one.unsupported?.(session.host);
  if (reason !== undefined) return reason;
  session.arm(limitMs);
  const overtime = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    overtime.reject(new CheckFailed(`the case waited for something that did not come within ${limitMs} ms`));
  }, limitMs * 1.5);
  try {
    await using context = new Context(one, session);
    await Promise.race([one.run(context), overtime.promise]);
    return undefined;
  } catch (error) {
    if (error instanceof Unsupported) return error.message;
    throw error;
  } finally {
    clearTimeout(timer);
    session.disarm();
  }
}
