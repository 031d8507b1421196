/**
 * The interpreter's handlers: one WebAssembly function for each shape of instruction met so far, made from the meaning of
 * its mnemonic when the shape is first met. They sit in a table, by which records name them and tail calls reach them.
 */

import { Budget } from "../cpu/budget.ts";
import { Mode, STATE_SIZE, State, Translated } from "../cpu/layout.ts";
import { CpuState } from "../cpu/state.ts";
import type { Engine } from "../machine/code-store.ts";
import { addCodeWalk } from "../mmu/code-walk.ts";
import { addMemory } from "../mmu/quick-walk.ts";
import type { Meaning } from "../semantics/context.ts";
import { writeUnitFunction } from "../semantics/sse/unit-function.ts";
import { VECTOR_FUNCTION_TYPE, VECTOR_FUNCTIONS, vectorFunctions } from "../vector-unit/functions.ts";
import { VectorUnit } from "../vector-unit/unit.ts";
import type { Code } from "../wasm/code.ts";
import type { I32, Local } from "../wasm/expr.ts";
import { type FunctionType, ModuleBuilder } from "../wasm/module.ts";
import { c32, c64, call, i32, i64, select } from "../wasm/ops.ts";
import { addX87Functions, X87_FUNCTION_TYPE, X87_FUNCTIONS } from "../x87/quick/functions.ts";
import type { SavedHandlers } from "./code-image.ts";
import { CODE_LIMITS } from "./limits.ts";
import { ModuleCode, packModules, unpackModule } from "./module-code.ts";
import type { Outside } from "./outside.ts";
import { emitHasPlace, Place, placeEntry } from "./places.ts";
import { addQuickAccesses, writeAbandoned, writeDelivery } from "./quick-paths.ts";
import { BlockHeader, Record, Return } from "./record.ts";
import { RecordContext } from "./record-context.ts";
import type { Shape } from "./shape.ts";

/**
 * A table from virtual addresses to records, behind the vCPU's state. Each address has two places: one that comes drives
 * what is in its first place to that one's second. A kernel that boots decodes some 65,000 blocks.
 *
 * Ring 3 has a table of its own behind the supervisor's: programs come and go, and would drive a kernel's addresses out. Beside the
 * mode of its code, an entry there has the number of its address space, in the bits of {@link SPACE}: loads of CR3 count that on
 * (`State.space`), so that they empty nothing.
 */
export const JumpCache = {
  offset: STATE_SIZE,
  entries: 65536,
  ring3: STATE_SIZE + 65536 * 16,
  ring3Entries: 8192,
  end: STATE_SIZE + (65536 + 8192) * 16,
  entrySize: 16,
  /** The first place is the address's low bits and those from here on, the second these times the factor and those. */
  shift: 12,
  secondShift: 17,
  secondFactor: 0x2c1b3c6d,
  /** 64 bits; an address that no code has when empty. */
  rip: 0,
  mode: 8,
  record: 12,
  empty: 0xdeaddeaddeaddeadn,
} as const;

/** The first of the bits of an entry's mode that say which address space it is of; modes are below. */
export const SPACE = 1 << 12;

/** Slots of the handlers that belong to no instruction. */
export const Slot = {
  MICROCODE: 1,
  RESYNC: 2,
  END: 3,
  FORWARD: 4,
  /** In place of a block's first handler: counts its runs. */
  COUNT: 5,
  X87_FUNCTIONS: 6,
  VECTOR_FUNCTIONS: 6 + X87_FUNCTIONS,
  FIRST_FREE: 6 + X87_FUNCTIONS + VECTOR_FUNCTIONS,
} as const;

/** Functions of quick-paths.ts, as TypeScript calls them. */
export interface QuickPaths {
  load(linear: bigint, size: number, kind: number): number;
  store(linear: bigint, size: number, kind: number): number;
  /** Where code of ring 3 lies in linear memory, or -1: mmu/code-walk.ts. */
  codeWalk(linear: bigint): number;
  /** `ProcessorHooks.deliverQuickly`; `returnRip` is an address in linear memory. Not 0 where it was delivered. */
  deliver(vector: number, error: number, returnRip: number, resume: number): number;
}

/** Functions of the core module that all others import. */
const SHARED = [
  "load",
  "store",
  "abandoned",
  "vectorUnit",
  "lookup",
  "timeStamp",
  "portRead",
  "portWrite",
  "msrWrite",
] as const;
type Shared = { readonly [name in (typeof SHARED)[number]]: WebAssembly.ExportedFunction };

/** What handlers come to when the lookaside buffer misses, and quick-paths.ts does not do it: `Access` of mmu/access.ts. */
export interface SlowPaths {
  load(linear: number, size: number, kind: number): number;
  store(linear: number, size: number, kind: number): number;
  segmentFault(segment: number, isWrite: number): void;
  /** The TSC without the guest's offset, as a float; what has no clock stands still. */
  ticks?(): number;
  /** See `Outside`. Without them ports are microcode's. */
  portRead?(port: number, size: number): number;
  portWrite?(port: number, size: number, value: number): number;
  msrWrite?(index: number, low: number, high: number): number;
}

const HANDLER: FunctionType = { parameters: ["i32"], results: ["i32"] };

export class Handlers {
  /** Runs from a record until something needs TypeScript; a member of `Return`. */
  readonly enter: (record: number) => Return;
  /** The same from `State.blockRip` on; LOOKUP at once when the jump cache does not know it. */
  readonly resume: () => Return;
  readonly quick: QuickPaths;
  /** The host's, if it keeps what it makes of modules. */
  readonly engine: Engine | undefined;
  readonly #slots = new Map<string, number>();
  readonly #pending: { shape: Shape; meaning: Meaning; slot: number }[] = [];
  readonly #table: WebAssembly.Table;
  readonly #memory: WebAssembly.Memory;
  readonly #slow: SlowPaths;
  readonly #base: number;
  readonly #shared: Shared;
  readonly #freeSlots: number[] = [];
  /** What each handler was made of. */
  readonly #made: { shape: Shape; meaning: Meaning; slot: number }[] = [];
  /** The modules of those that are an earlier guest's. */
  #restored: readonly { readonly module: ModuleCode; readonly slots: readonly number[] }[] = [];
  /** Slots of regions that have gone are not given to others: an image has both. */
  keepSlots = false;
  #nextSlot: number = Slot.FIRST_FREE;
  #era = 0;
  #bytes = 0;

  /** `base`: where the vCPU's state is in `memory`. */
  constructor(memory: WebAssembly.Memory, base: number, slow: SlowPaths, engine?: Engine) {
    this.#memory = memory;
    this.#base = base;
    this.#slow = slow;
    this.engine = engine;
    this.#table = new WebAssembly.Table({ element: "anyfunc", initial: 1024 });
    for (const [index, each] of vectorFunctions().entries()) this.#table.set(Slot.VECTOR_FUNCTIONS + index, each);
    const unit = new VectorUnit(new CpuState(memory.buffer, base));
    const exact = (operation: number, argument: number) => unit.run(operation, argument);
    const { load, store, ticks = () => 0, portRead = () => -1, portWrite = () => 0, msrWrite = () => 0 } = slow;
    const quick = { askPort: portRead, tellPort: portWrite, tellMsr: msrWrite };
    const typescript = { slowLoad: load, slowStore: store, exact, ticks, ...quick };
    const exports = this.#instantiate(new WebAssembly.Module(coreModule(base).encode()), typescript);
    this.#shared = Object.fromEntries(SHARED.map((name) => [name, exports[name]])) as Shared;
    this.enter = exports.enter as (record: number) => Return;
    this.resume = exports.lookup as () => Return;
    this.quick = exports as unknown as QuickPaths;
  }

  /** Bytes of WebAssembly that handlers were made of. */
  get bytes(): number {
    return this.#bytes;
  }

  /** There are so many that all have to be forgotten. A guest can have every encoding that there is; see {@link clear}. */
  get isFull(): boolean {
    return this.#bytes >= CODE_LIMITS.handlerBytes;
  }

  /** Slots of one era are not those of another: {@link clear}. */
  get era(): number {
    return this.#era;
  }

  /** Forgets all handlers, while no record names one and no region is installed. */
  clear(): void {
    for (let slot = Slot.FIRST_FREE; slot < this.#table.length; slot++) this.#table.set(slot, null);
    // What still waits for its flush would come to slots that are others' by then.
    this.#pending.length = 0;
    this.#slots.clear();
    this.#made.length = 0;
    this.#restored = [];
    this.#freeSlots.length = 0;
    this.#era += 1;
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
    const bytes = this.#write(this.#pending);
    this.#made.push(...this.#pending);
    this.#pending.length = 0;
    this.#bytes += bytes.length;
    this.#install(new ModuleCode(bytes));
  }

  #write(handlers: readonly { shape: Shape; meaning: Meaning; slot: number }[]): Uint8Array<ArrayBuffer> {
    const module = new ModuleBuilder();
    const outside = importOutside(module);
    for (const { shape, meaning, slot } of handlers) {
      const { index, code } = module.function(HANDLER.parameters, HANDLER.results);
      const context = new RecordContext(code, shape, this.#base, outside);
      meaning(context);
      context.finish();
      module.elements(slot, [index]);
    }
    return module.encode();
  }

  /** All handlers for {@link restore}, those that are new in one module. */
  save(): { saved: Omit<SavedHandlers, "known">; bytes: Uint8Array<ArrayBuffer> } {
    const all = [...this.#restored];
    for (const { module, slots } of all) this.#note(module, slots);
    if (this.#made.length > 0) {
      all.push({ module: new ModuleCode(this.#write(this.#made)), slots: this.#made.map(({ slot }) => slot) });
    }
    const { sizes, packed } = packModules(
      all.map(({ module }) => module),
      this.engine,
    );
    const modules = all.map(({ slots }, index) => ({ ...sizes[index]!, handlers: slots.length }));
    return { saved: { modules, slots: [...this.#slots], nextSlot: this.#nextSlot }, bytes: packed };
  }

  /** Handlers that an earlier guest needed; there are none yet. */
  restore({ modules, slots, nextSlot }: Omit<SavedHandlers, "known">, bytes: Uint8Array<ArrayBuffer>): void {
    this.#nextSlot = nextSlot;
    for (const [key, slot] of slots) this.#slots.set(key, slot);
    let at = 0;
    let first = 0;
    this.#restored = modules.map(({ handlers, ...sizes }) => {
      const module = unpackModule(bytes, at, sizes);
      at += sizes.bytes + sizes.engine;
      this.#bytes += sizes.bytes;
      this.#install(module);
      first += handlers;
      return { module, slots: slots.slice(first - handlers, first).map(([, slot]) => slot) };
    });
  }

  /** A slot for compiled code, which knows its own: see compiler/. */
  takeSlot(): number {
    return this.#freeSlots.pop() ?? this.#nextSlot++;
  }

  /** Takes a slot back that came to nothing. */
  returnSlot(slot: number): void {
    this.#freeSlots.push(slot);
  }

  /** Compiles and instantiates regions, which know their slots, one of which is `slot`. */
  install(module: ModuleCode, slot: number): void {
    this.#install(module);
    this.#note(module, [slot]);
  }

  /** Which functions are a module's, for as long as they are in the table. */
  #note(module: ModuleCode, slots: readonly number[]): void {
    if (this.engine !== undefined) module.functions = slots.map((slot) => this.#table.get(slot));
  }

  #install(module: ModuleCode): void {
    if (this.#nextSlot > this.#table.length) this.#table.grow(this.#nextSlot - this.#table.length + 1024);
    this.#instantiate(module.module(this.engine), this.#shared);
  }

  /** Lets go of compiled code. */
  uninstall(slot: number): void {
    this.#table.set(slot, null);
    if (!this.keepSlots) this.#freeSlots.push(slot);
  }

  #instantiate(module: WebAssembly.Module, more: WebAssembly.Imports[string]): { readonly [name: string]: unknown } {
    const { segmentFault } = this.#slow;
    const instance = new WebAssembly.Instance(module, {
      lodge: { ...{ memory: this.#memory, table: this.#table, segmentFault }, ...more },
    });
    return instance.exports;
  }
}

/** Declares what every module of handlers or regions imports. */
export function importOutside(module: ModuleBuilder): Outside {
  importMachine(module);
  const access = () => [["i64", "i32", "i32"], ["i32"]] as const;
  const load = module.importFunction("lodge", "load", ...access());
  const store = module.importFunction("lodge", "store", ...access());
  const abandoned = module.importFunction("lodge", "abandoned", ["i32"], ["i32"]);
  const vectorUnit = module.importFunction("lodge", "vectorUnit", ["i32", "i32"], ["i32"]);
  const lookup = module.importFunction("lodge", "lookup", [], ["i32"]);
  const timeStamp = module.importFunction("lodge", "timeStamp", [], ["i64"]);
  const portRead = module.importFunction("lodge", "portRead", ["i32", "i32"], ["f64"]);
  const portWrite = module.importFunction("lodge", "portWrite", ["i32", "i32", "i32"], ["i32"]);
  const msrWrite = module.importFunction("lodge", "msrWrite", ["i32", "i32", "i32"], ["i32"]);
  const segmentFault = module.importFunction("lodge", "segmentFault", ["i32", "i32"], []);
  return {
    ...{ load, store, abandoned, vectorUnit, lookup, timeStamp, portRead, portWrite, msrWrite, segmentFault },
    ...tableFunctions(module),
  };
}

function importMachine(module: ModuleBuilder): void {
  // The memory may grow to anything that 32 bits reach.
  module.importMemory("lodge", "memory", 1, 65536);
  module.importTable("lodge", "table", 1);
}

function tableFunctions(module: ModuleBuilder) {
  return {
    handlerType: module.type(HANDLER.parameters, HANDLER.results),
    vectorFunctionType: module.type(VECTOR_FUNCTION_TYPE.parameters, VECTOR_FUNCTION_TYPE.results),
    vectorFunctions: Slot.VECTOR_FUNCTIONS,
    x87FunctionType: module.type(X87_FUNCTION_TYPE.parameters, X87_FUNCTION_TYPE.results),
    x87Functions: Slot.X87_FUNCTIONS,
  };
}

/** Goes on at `State.blockRip` if its record is known: by the jump cache, or by where `walk` says that its code lies. */
function jump(code: Code, base: number, walk: number, { handlerType }: Pick<Outside, "handlerType">): void {
  const at = (offset: number) => c32(base + offset);
  const budget = code.let(i32.sub(i32.load(at(State.budget)), c32(Budget.jump)));
  code.store("i32", at(State.budget), 0, budget);
  code.if(i32.lt_s(budget, c32(0)), () => code.return(c32(Return.BUDGET)));
  const rip = code.let(i64.load(at(State.blockRip)));
  const mode = code.let(i32.load(at(State.mode)));
  const isUser = code.let(i32.and(mode, c32(Mode.USER)));
  const tag = code.let(i32.or(mode, select(isUser, i32.load(at(State.space)), c32(0))));
  const [supervisors, users] = [jumpCacheEntries(base, rip, false), jumpCacheEntries(base, rip, true)];
  const entries = supervisors.map((place, index) => code.let(select(isUser, users[index]!, place)));
  const enter = (record: I32) => code.tailCallIndirect(handlerType, i32.load(record, Record.handler), record);
  for (const entry of entries) {
    const hit = i32.and(i64.eq(i64.load(entry, JumpCache.rip), rip), i32.eq(i32.load(entry, JumpCache.mode), tag));
    code.if(hit, () => enter(code.let(i32.load(entry, JumpCache.record))));
  }
  const mayWalk = i32.and(emitHasPlace(mode), i32.ne(i32.load(at(State.quick)), c32(0)));
  code.if(i32.and(mayWalk, i32.ne(i32.load(at(State.places)), c32(0))), () => {
    code.store("i32", at(State.budget), 0, i32.sub(budget, c32(Budget.walk)));
    const host = code.let(call("i32", walk, rip));
    code.if(i32.ne(host, c32(-1)), () => {
      const place = code.let(placeEntry(base, host));
      const record = code.let(i32.load(place, Place.record));
      const isIt = i32.and(i32.eq(i32.load(place, Place.host), host), i32.eq(i32.load(place, Place.mode), mode));
      code.if(i32.and(isIt, i32.ne(record, c32(0))), () => {
        fillJump(code, base, { rip, tag, record, entries });
        enter(record);
      });
    });
  });
}

/** Enters a jump of ring 3 into the cache, and notes for INVLPG that its page has one. */
function fillJump(
  code: Code,
  base: number,
  jump: { rip: Local<"i64">; tag: I32; record: I32; entries: readonly I32[] },
): void {
  const [first, second] = jump.entries as [I32, I32];
  // What is of an older address space gives way.
  const entry = code.let(select(i32.eq(i32.load(first, JumpCache.mode), jump.tag), second, first));
  code.store("i64", entry, JumpCache.rip, jump.rip);
  code.store("i32", entry, JumpCache.mode, jump.tag);
  code.store("i32", entry, JumpCache.record, jump.record);
  for (const [at, shift] of [
    [Translated.code, Translated.codeShift],
    [Translated.large, Translated.largeShift],
  ] as const) {
    const piece = i32.and(i32.wrap(i64.shr_u(jump.rip, c64(shift))), c32(Translated.entries - 1));
    code.store("i32_8", i32.add(piece, c32(base + at)), 0, c32(1));
  }
}

/** Where the jump cache has an address first of all, and where it has one that another has driven from there. */
export function jumpCacheEntries(base: number, rip: Local<"i64">, isUser: boolean): [first: I32, second: I32] {
  const low = i32.wrap(rip);
  const [table, count] = isUser ? [JumpCache.ring3, JumpCache.ring3Entries] : [JumpCache.offset, JumpCache.entries];
  const at = (hash: I32) => {
    const number = i32.and(hash, c32(count - 1));
    return i32.add(i32.shl(number, c32(Math.log2(JumpCache.entrySize))), c32(base + table));
  };
  const second = i32.xor(i32.shr_u(low, c32(JumpCache.secondShift)), i32.mul(low, c32(JumpCache.secondFactor)));
  return [at(i32.xor(low, i32.shr_u(low, c32(JumpCache.shift)))), at(second)];
}

/** The way in, the look-up of jumps, quick ways beside TypeScript, and the handlers that are no instructions. */
function coreModule(base: number): ModuleBuilder {
  const module = new ModuleBuilder();
  importMachine(module);
  const slowLoad = module.importFunction("lodge", "slowLoad", ["f64", "i32", "i32"], ["i32"]);
  const slowStore = module.importFunction("lodge", "slowStore", ["f64", "i32", "i32"], ["i32"]);
  const exact = module.importFunction("lodge", "exact", ["i32", "i32"], ["i32"]);
  const ticks = module.importFunction("lodge", "ticks", [], ["f64"]);
  const askPort = module.importFunction("lodge", "askPort", ["i32", "i32"], ["f64"]);
  const tellPort = module.importFunction("lodge", "tellPort", ["i32", "i32", "i32"], ["i32"]);
  const tellMsr = module.importFunction("lodge", "tellMsr", ["i32", "i32", "i32"], ["i32"]);
  const segmentFault = module.importFunction("lodge", "segmentFault", ["i32", "i32"], []);
  const inTable = tableFunctions(module);

  const memory = addMemory(module, base);
  const codeWalk = addCodeWalk(module, base, memory);
  module.exportFunction("codeWalk", codeWalk);
  const lookup = module.function([], ["i32"]);
  {
    const { code } = lookup;
    jump(code, base, codeWalk, inTable);
    code.store("i32", c32(base + State.chain), 0, c32(0));
    code.return(c32(Return.LOOKUP));
  }
  const unit = module.function(["i32", "i32"], ["i32"]);
  writeUnitFunction(unit.code, base, exact);
  const { load, store } = addQuickAccesses(module, base, memory, { slowLoad, slowStore });
  const abandoned = module.function(["i32"], ["i32"]);
  const time = module.function([], ["i64"]);
  const now = i64.trunc_sat_f64_s(call("f64", ticks));
  time.code.return(i64.add(now, i64.load(c32(base + State.tscOffset))));
  const shared = {
    ...{ load, store, abandoned: abandoned.index, vectorUnit: unit.index },
    ...{ lookup: lookup.index, timeStamp: time.index, portRead: askPort, portWrite: tellPort, msrWrite: tellMsr },
  };
  for (const name of SHARED) module.exportFunction(name, shared[name]);
  const outside: Outside = { ...shared, segmentFault, ...inTable };

  writeAbandoned(
    new RecordContext(abandoned.code, SPECIAL, base, outside),
    abandoned.code.parameters[0] as I32,
    lookup.index,
  );
  const deliver = module.function(["i32", "i32", "i32", "i32"], ["i32"]);
  writeDelivery(new RecordContext(deliver.code, SPECIAL, base, outside));
  module.exportFunction("deliver", deliver.index);

  const enter = module.function(HANDLER.parameters, HANDLER.results);
  const record = enter.code.parameters[0] as never;
  enter.code.tailCallIndirect(inTable.handlerType, i32.load(record, Record.handler), record);
  module.exportFunction("enter", enter.index);

  const special = (body: (context: RecordContext) => void): number => {
    const { index, code } = module.function(HANDLER.parameters, HANDLER.results);
    body(new RecordContext(code, SPECIAL, base, outside));
    return index;
  };
  const forward = module.function(HANDLER.parameters, HANDLER.results);
  const old = forward.code.parameters[0] as never;
  const next = forward.code.let(i32.load(old, Record.taken));
  forward.code.tailCallIndirect(inTable.handlerType, i32.load(next, Record.handler), next);

  module.elements(Slot.MICROCODE, [
    special((context) => context.microcode()),
    special((context) => context.resync()),
    special((context) => context.endOfBlock()),
    forward.index,
    addCount(module, base, inTable),
    ...addX87Functions(module),
  ]);
  return module;
}

/** The handler of {@link Slot.COUNT}: runs the block while it is not run often. */
function addCount(module: ModuleBuilder, base: number, { handlerType }: Pick<Outside, "handlerType">): number {
  const { index, code } = module.function(HANDLER.parameters, HANDLER.results);
  const record = code.parameters[0] as Local<"i32">;
  const at = code.let(i32.add(record, c32(BlockHeader.runs)));
  const left = code.let(i32.sub(i32.load(at), c32(1)));
  code.store("i32", at, 0, left);
  code.if(i32.le_s(left, c32(0)), () => {
    code.store("i32", c32(base + State.record), 0, record);
    code.return(c32(Return.WARM));
  });
  code.tailCallIndirect(handlerType, i32.load(i32.add(record, c32(BlockHeader.handler))), record);
  return index;
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
