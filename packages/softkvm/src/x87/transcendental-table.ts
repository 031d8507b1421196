/** Transcendental instructions by mnemonic: operands on the stack, results of transcendental.ts. */

import { State } from "../cpu/layout.ts";
import type { Microcode } from "../system/microcode.ts";
import { change, deliverTwo } from "./computations.ts";
import type { Float80 } from "./float80.ts";
import { Status } from "./layout.ts";
import type { Result } from "./round.ts";
import {
  arcTangent,
  cosine,
  exponentialMinus1,
  isTooLarge,
  logarithmPlus1Times,
  logarithmTimes,
  sine,
  sineAndCosine,
  type Two,
  tangent,
} from "./transcendental.ts";
import { begin, conclude, control, deliver, isEmpty, register, underflow } from "./unit.ts";

/** ST(1) becomes `operation` of itself and ST(0), which is popped. */
function ofTwo(operation: (below: Float80, above: Float80, control: number) => Result): Microcode {
  return (cpu, instruction) => {
    begin(cpu);
    if (isEmpty(cpu, 0) || isEmpty(cpu, 1)) underflow(cpu, instruction, 1, 1);
    else deliver(cpu, instruction, operation(register(cpu, 1), register(cpu, 0), control(cpu)), 1, 1);
  };
}

/** Of an angle in ST(0): C2 says that it is too large, and nothing was done. */
function ofAngle(then: Microcode, pushes: boolean): Microcode {
  return (cpu, instruction) => {
    begin(cpu);
    const { state } = cpu;
    const stackFault = isEmpty(cpu, 0) || (pushes && !isEmpty(cpu, -1));
    if (!stackFault && isTooLarge(register(cpu, 0))) {
      state.set32(State.fsw, state.get32(State.fsw) | Status.C2);
      conclude(cpu, instruction, 0);
      return;
    }
    then(cpu, instruction);
    state.set32(State.fsw, state.get32(State.fsw) & ~Status.C2);
  };
}

function withTwoResults(operation: (value: Float80, control: number) => Two): Microcode {
  return ofAngle(
    (cpu, instruction) => deliverTwo(cpu, instruction, () => operation(register(cpu, 0), control(cpu))),
    true,
  );
}

export const TRANSCENDENTALS: Record<string, Microcode> = {
  f2xm1: change(exponentialMinus1),
  fyl2x: ofTwo(logarithmTimes),
  fyl2xp1: ofTwo(logarithmPlus1Times),
  fpatan: ofTwo(arcTangent),
  fsin: ofAngle(change(sine), false),
  fcos: ofAngle(change(cosine), false),
  fsincos: withTwoResults(sineAndCosine),
  fptan: withTwoResults(tangent),
};
