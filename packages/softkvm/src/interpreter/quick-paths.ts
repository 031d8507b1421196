/**
 * What happens all the time where handlers leave their fast way, without a step into TypeScript: an access that misses the
 * lookaside buffer, and the delivery of the page fault that it may be. Functions of the core module. Each knows the usual
 * case only, and leaves any other to TypeScript before it has changed anything.
 */

import { Mode, NO_FAULT, State, Tlb, Vector } from "../cpu/layout.ts";
import { AccessKind } from "../mmu/access.ts";
import { entryOffset } from "../mmu/lookaside-entry.ts";
import { addQuickWalk, Walked } from "../mmu/quick-walk.ts";
import { deliverQuickly } from "../semantics/system/delivery.ts";
import type { Code } from "../wasm/code.ts";
import type { I32, I64, Local } from "../wasm/expr.ts";
import type { ModuleBuilder } from "../wasm/module.ts";
import { c32, call, f64, i32, i64 } from "../wasm/ops.ts";
import { v128 } from "../wasm/simd.ts";
import { Record, Return } from "./record.ts";
import type { RecordContext } from "./record-context.ts";

/** Functions of TypeScript, by their indexes; they get addresses as floats: see `Outside.load`. */
interface SlowPaths {
  readonly slowLoad: number;
  readonly slowStore: number;
}

/** Adds `Outside.load` and `Outside.store`; returns their indexes. */
export function addQuickAccesses(
  module: ModuleBuilder,
  base: number,
  memory: number,
  { slowLoad, slowStore }: SlowPaths,
) {
  const walk = addQuickWalk(module, base, memory);
  const load = module.function(["i64", "i32", "i32"], ["i32"]);
  const transfer = c32(base + State.transfer);
  access(load.code, base, walk, Tlb.read, slowLoad, (host, size) => copy(load.code, host, transfer, size));
  const store = module.function(["i64", "i32", "i32"], ["i32"]);
  access(store.code, base, walk, Tlb.write, slowStore, (host, size) => copy(store.code, transfer, host, size));
  return { load: load.index, store: store.index };
}

/** (linear address, size, `AccessKind`) → `Outcome`, by way of a walk where that is all that is missing. */
function access(
  code: Code,
  base: number,
  walk: number,
  table: typeof Tlb.read | typeof Tlb.write,
  slow: number,
  move: (host: I32, size: I32) => void,
): void {
  const [linear, size, kind] = code.parameters as [Local<"i64">, Local<"i32">, Local<"i32">];
  const isWithin = i32.le_u(i32.and(i32.wrap(linear), c32(0xfff)), i32.sub(c32(4096), size));
  code.if(isWithin, () => {
    const intent = table === Tlb.write ? i32.or(kind, c32(AccessKind.WRITE)) : kind;
    const outcome = code.let(call("i32", walk, linear, intent));
    code.if(i32.eq(outcome, c32(Walked.FAULT)), () => code.return(outcome));
    code.if(i32.eq(outcome, c32(Walked.FILLED)), () => {
      code.if(i32.and(kind, c32(AccessKind.FILL)), () => code.return(c32(0)));
      const entry = i32.add(i32.load(c32(base + State.tlb)), entryOffset(linear));
      move(code.let(i32.add(i32.wrap(linear), i32.load(entry, table + Tlb.addend))), size);
    });
  });
  code.return(call("i32", slow, f64.convert_i64_s(linear), size, kind));
  code.unreachable();
}

/** Copies an operand and returns; of an unusual size, does neither. */
function copy(code: Code, from: I32, to: I32, size: I32): void {
  const when = (bytes: number, store: () => void) =>
    code.if(i32.eq(size, c32(bytes)), () => {
      store();
      code.return(c32(0));
    });
  when(8, () => code.store("i64", to, 0, i64.load(from)));
  when(4, () => code.store("i32", to, 0, i32.load(from)));
  when(1, () => code.store("i32_8", to, 0, i32.load8_u(from)));
  when(2, () => code.store("i32_16", to, 0, i32.load16_u(from)));
  when(16, () => code.store("v128", to, 0, v128.load(from)));
}

/** Writes `Outside.abandoned`, whose parameter is the record of the instruction. `c` is of that function. */
export function writeAbandoned(c: RecordContext, record: I32, lookup: number): void {
  const { code } = c;
  const unwind = () => code.return(c32(Return.UNWIND));
  const is64Bit = i32.eq(i32.and(c.state32(State.mode), c32(Mode.BITS)), c32(2));
  const isPageFault = i32.eq(c.state32(State.faultVector), c32(Vector.PF));
  code.if(i32.eqz(i32.and(i32.and(is64Bit, isPageFault), c.state32(State.quick))), unwind);
  const rip = c.let(i64.add(c.state64(State.blockRip), i64.load32_u(record, Record.start)));
  const error = c.state32(State.faultError);
  deliverQuickly(c, { vector: c32(Vector.PF), error, returnRip: rip, resume: c32(1) }, unwind);
  c.setState64(State.cr2, c.state64(State.faultAddress));
  c.setState32(State.faultVector, c32(NO_FAULT));
  arrive(c);
  c.setState64(State.blockRip, c.state64(State.rip));
  code.tailCall(lookup);
  code.unreachable();
}

/**
 * Writes the function (vector, error code or -1, address of the field with the handler's return address, whether its RFLAGS
 * have RF set) → whether the event was delivered.
 */
export function writeDelivery(c: RecordContext): void {
  const { code } = c;
  const [vector, error, returnRip, resume] = code.parameters as Local<"i32">[];
  const refuse = () => code.return(c32(0));
  const event = { vector: vector!, error: error!, returnRip: i64.load(returnRip!) as I64, resume: resume! };
  deliverQuickly(c, event, refuse);
  arrive(c);
  code.return(c32(1));
  code.unreachable();
}

/** The guest is in the handler: its first instruction is the current one. */
function arrive(c: RecordContext): void {
  c.setState64(State.instructionRip, c.state64(State.rip));
}
