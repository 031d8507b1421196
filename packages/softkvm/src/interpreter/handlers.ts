/**
 * The interpreter's handlers: one WebAssembly function for each shape of instruction met so far, made from the meaning of
 * its mnemonic when the shape is first met. They sit in a table, by which records name them and tail calls reach them.
 */

import { STATE_SIZE, State } from "../cpu/layout.ts";
import { CpuState } from "../cpu/state.ts";
import type { Meaning } from "../semantics/context.ts";
import { writeUnitFunction } from "../semantics/sse/unit-function.ts";
import { VECTOR_FUNCTION_TYPE, VECTOR_FUNCTIONS, vectorFunctions } from "../vector-unit/functions.ts";
import { VectorUnit } from "../vector-unit/unit.ts";
import type { Code } from "../wasm/code.ts";
import type { I32, Local } from "../wasm/expr.ts";
import { type FunctionType, ModuleBuilder } from "../wasm/module.ts";
import { c32, i32, i64 } from "../wasm/ops.ts";
import { addX87Functions, X87_FUNCTION_TYPE, X87_FUNCTIONS } from "../x87/quick/functions.ts";
import { CODE_LIMITS } from "./limits.ts";
import { Record, Return } from "./record.ts";
import { type Outside, RecordContext } from "./record-context.ts";
import type { Shape } from "./shape.ts";

/**
 * A direct-mapped table from virtual addresses to records, behind the vCPU's state. A kernel that boots decodes some 75,000
 * blocks; of its jumps between pages, a third as many miss this as miss one of 4096 entries.
 */
export const JumpCache = {
  offset: STATE_SIZE,
  entries: 32768,
  entrySize: 16,
  /** 64 bits; an address that no code has when empty. */
  rip: 0,
  mode: 8,
  record: 12,
  empty: 0xdeaddeaddeaddeadn,
} as const;

/** Slots of the handlers that belong to no instruction. */
export const Slot = {
  MICROCODE: 1,
  RESYNC: 2,
  END: 3,
  FORWARD: 4,
  X87_FUNCTIONS: 5,
  VECTOR_FUNCTIONS: 5 + X87_FUNCTIONS,
  FIRST_FREE: 5 + X87_FUNCTIONS + VECTOR_FUNCTIONS,
} as const;

/** What handlers call when the lookaside buffer misses: `Access` of mmu/access.ts. */
export interface SlowPaths {
  load(linear: number, size: number, kind: number): number;
  store(linear: number, size: number, kind: number): number;
  segmentFault(segment: number, isWrite: number): void;
}

const HANDLER: FunctionType = { parameters: ["i32"], results: ["i32"] };

export class Handlers {
  /** Runs from a record until something needs TypeScript; a member of `Return`. */
  readonly enter: (record: number) => Return;
  /** The same from `State.blockRip` on; LOOKUP at once when the jump cache does not know it. */
  readonly resume: () => Return;
  readonly #slots = new Map<string, number>();
  readonly #pending: { shape: Shape; meaning: Meaning; slot: number }[] = [];
  readonly #table: WebAssembly.Table;
  readonly #memory: WebAssembly.Memory;
  readonly #slow: SlowPaths;
  readonly #vectorUnit: WebAssembly.ExportedFunction;
  readonly #base: number;
  readonly #lookup: WebAssembly.ExportedFunction;
  readonly #freeSlots: number[] = [];
  #nextSlot: number = Slot.FIRST_FREE;
  #bytes = 0;

  /** `base`: where the vCPU's state is in `memory`. */
  constructor(memory: WebAssembly.Memory, base: number, slow: SlowPaths) {
    this.#memory = memory;
    this.#base = base;
    this.#slow = slow;
    this.#table = new WebAssembly.Table({ element: "anyfunc", initial: 1024 });
    for (const [index, each] of vectorFunctions().entries()) this.#table.set(Slot.VECTOR_FUNCTIONS + index, each);
    const unit = new VectorUnit(new CpuState(memory.buffer, base));
    const exact = (operation: number, argument: number) => unit.run(operation, argument);
    const exports = this.#instantiate(coreModule(base).encode(), { vectorUnit: exact });
    this.#vectorUnit = exports.vectorUnit as WebAssembly.ExportedFunction;
    this.enter = exports.enter as (record: number) => Return;
    this.#lookup = exports.lookup as WebAssembly.ExportedFunction;
    this.resume = this.#lookup as unknown as () => Return;
  }

  /** Bytes of WebAssembly that handlers were made of. */
  get bytes(): number {
    return this.#bytes;
  }

  /** There are so many that all have to be forgotten. A guest can have every encoding that there is; see {@link clear}. */
  get isFull(): boolean {
    return this.#bytes >= CODE_LIMITS.handlerBytes;
  }

  /** Forgets all handlers, while no record names one and no region is installed. */
  clear(): void {
    for (let slot = Slot.FIRST_FREE; slot < this.#table.length; slot++) this.#table.set(slot, null);
    // What still waits for its flush would come to slots that are others' by then.
    this.#pending.length = 0;
    this.#slots.clear();
    this.#freeSlots.length = 0;
    this.#nextSlot = Slot.FIRST_FREE;
    this.#bytes = 0;
  }

  /** The slot of a shape's handler. New ones are there after {@link flush}. */
  slotOf(shape: Shape, meaning: Meaning): number {
    const known = this.#slots.get(shape.key);
    if (known !== undefined) return known;
    const slot = this.#nextSlot++;
    this.#slots.set(shape.key, slot);
    this.#pending.push({ shape, meaning, slot });
    return slot;
  }

  /** Compiles the handlers that are new since the last flush, in one module. */
  flush(): void {
    if (this.#pending.length === 0) return;
    if (this.#nextSlot > this.#table.length) this.#table.grow(this.#nextSlot - this.#table.length + 1024);
    const module = new ModuleBuilder();
    const outside = importOutside(module, true);
    for (const { shape, meaning, slot } of this.#pending) {
      const { index, code } = module.function(HANDLER.parameters, HANDLER.results);
      const context = new RecordContext(code, shape, this.#base, outside);
      meaning(context);
      context.finish();
      module.elements(slot, [index]);
    }
    this.#pending.length = 0;
    const bytes = module.encode();
    this.#bytes += bytes.length;
    this.#instantiate(bytes, { lookup: this.#lookup });
  }

  /** A slot for compiled code, which knows its own: see compiler/. */
  takeSlot(): number {
    return this.#freeSlots.pop() ?? this.#nextSlot++;
  }

  /** Instantiates compiled code: functions by their slots. Returns the module's bytes. */
  install(module: ModuleBuilder, functions: ReadonlyMap<number, number>): number {
    if (this.#nextSlot > this.#table.length) this.#table.grow(this.#nextSlot - this.#table.length + 1024);
    for (const [slot, index] of functions) module.elements(slot, [index]);
    const bytes = module.encode();
    this.#instantiate(bytes, { lookup: this.#lookup });
    return bytes.length;
  }

  /** Lets go of compiled code. */
  uninstall(slot: number): void {
    this.#table.set(slot, null);
    this.#freeSlots.push(slot);
  }

  #instantiate(
    bytes: Uint8Array<ArrayBuffer>,
    more: WebAssembly.Imports[string],
  ): { readonly [name: string]: unknown } {
    const { load, store, segmentFault } = this.#slow;
    const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), {
      lodge: {
        ...{ memory: this.#memory, table: this.#table, load, store, segmentFault },
        vectorUnit: this.#vectorUnit,
        ...more,
      },
    });
    return instance.exports;
  }
}

/** Declares what every handler module imports. The core module makes `lookup` itself. */
export function importOutside(module: ModuleBuilder, importLookup: boolean): Outside {
  // The memory may grow to anything that 32 bits reach.
  module.importMemory("lodge", "memory", 1, 65536);
  module.importTable("lodge", "table", 1);
  const load = module.importFunction("lodge", "load", ["f64", "i32", "i32"], ["i32"]);
  const store = module.importFunction("lodge", "store", ["f64", "i32", "i32"], ["i32"]);
  const segmentFault = module.importFunction("lodge", "segmentFault", ["i32", "i32"], []);
  const vectorUnit = module.importFunction("lodge", "vectorUnit", ["i32", "i32"], ["i32"]);
  const lookup = importLookup ? module.importFunction("lodge", "lookup", [], ["i32"]) : -1;
  const handlerType = module.type(HANDLER.parameters, HANDLER.results);
  const { parameters, results } = VECTOR_FUNCTION_TYPE;
  const vectorFunctionType = module.type(parameters, results);
  const vectorFunctions = Slot.VECTOR_FUNCTIONS;
  const x87FunctionType = module.type(X87_FUNCTION_TYPE.parameters, X87_FUNCTION_TYPE.results);
  const x87Functions = Slot.X87_FUNCTIONS;
  return {
    load,
    store,
    segmentFault,
    vectorUnit,
    vectorFunctionType,
    vectorFunctions,
    x87FunctionType,
    x87Functions,
    lookup,
    handlerType,
  };
}

/** Goes on at `State.blockRip` if the jump cache knows its record. */
export function jump(code: Code, base: number, { handlerType }: Pick<Outside, "handlerType">): void {
  const at = (offset: number) => c32(base + offset);
  const budget = code.let(i32.sub(i32.load(at(State.budget)), c32(1)));
  code.store("i32", at(State.budget), 0, budget);
  code.if(i32.lt_s(budget, c32(0)), () => code.return(c32(Return.BUDGET)));
  const rip = code.let(i64.load(at(State.blockRip)));
  const entry = code.let(jumpCacheEntry(base, rip));
  const hit = i32.and(
    i64.eq(i64.load(entry, JumpCache.rip), rip),
    i32.eq(i32.load(entry, JumpCache.mode), i32.load(at(State.mode))),
  );
  code.if(hit, () => {
    const record = code.let(i32.load(entry, JumpCache.record));
    code.tailCallIndirect(handlerType, i32.load(record, Record.handler), record);
  });
}

/** Where the jump cache would have an address. */
export function jumpCacheEntry(base: number, rip: Local<"i64">): I32 {
  const low = i32.wrap(rip);
  const hash = i32.and(i32.xor(low, i32.shr_u(low, c32(12))), c32(JumpCache.entries - 1));
  return i32.add(i32.shl(hash, c32(Math.log2(JumpCache.entrySize))), c32(base + JumpCache.offset));
}

/** The way in, the look-up of jumps, and the handlers that are no instructions. */
function coreModule(base: number): ModuleBuilder {
  const module = new ModuleBuilder();
  const imports = importOutside(module, false);

  const lookup = module.function([], ["i32"]);
  {
    const { code } = lookup;
    jump(code, base, imports);
    code.store("i32", c32(base + State.chain), 0, c32(0));
    code.return(c32(Return.LOOKUP));
  }
  module.exportFunction("lookup", lookup.index);

  const unit = module.function(["i32", "i32"], ["i32"]);
  writeUnitFunction(unit.code, base, imports.vectorUnit);
  module.exportFunction("vectorUnit", unit.index);

  const enter = module.function(HANDLER.parameters, HANDLER.results);
  const record = enter.code.parameters[0] as never;
  enter.code.tailCallIndirect(imports.handlerType, i32.load(record, Record.handler), record);
  module.exportFunction("enter", enter.index);

  const special = (body: (context: RecordContext) => void): number => {
    const { index, code } = module.function(HANDLER.parameters, HANDLER.results);
    body(new RecordContext(code, SPECIAL, base, { ...imports, lookup: lookup.index }));
    return index;
  };
  const forward = module.function(HANDLER.parameters, HANDLER.results);
  const old = forward.code.parameters[0] as never;
  const next = forward.code.let(i32.load(old, Record.taken));
  forward.code.tailCallIndirect(imports.handlerType, i32.load(next, Record.handler), next);

  module.elements(Slot.MICROCODE, [
    special((context) => context.microcode()),
    special((context) => context.resync()),
    special((context) => context.endOfBlock()),
    forward.index,
    ...addX87Functions(module),
  ]);
  return module;
}

/** The end of a block wraps at 64 bits; blocks of smaller code end before their segment does. */
const SPECIAL: Shape = {
  key: "",
  mnemonic: "",
  condition: -1,
  operands: [],
  operandSize: 8,
  addressSize: 8,
  stackSize: 8,
  bits: 64,
  lock: false,
  rep: 0,
  address: { size: 8, hasIndex: false, hasSegment: false, checked: false, stack: false },
};
