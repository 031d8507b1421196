/**
 * The interpreter's view of an instruction: operands come from the record that the handler is given, registers and flags
 * are in the vCPU's state in memory. Here are operands of general registers and memory, and where control goes.
 */

import { Budget } from "../cpu/budget.ts";
import { State } from "../cpu/layout.ts";
import type { Context, IntegerSize, Value } from "../semantics/context.ts";
import { fromI64, signExtend } from "../semantics/words.ts";
import type { I32, I64 } from "../wasm/expr.ts";
import { c32, i32, i64 } from "../wasm/ops.ts";
import { Record, Return } from "./record.ts";
import { loads, maskTo } from "./record-state.ts";
import { RecordX87 } from "./record-x87.ts";

/** A chain field that says: look the target up every time, it is in another page. */
export const CHAIN_LOOKUP = 1;

export class RecordContext extends RecordX87 implements Context {
  /** Goes on to the next record, unless the instruction has ended the block. */
  finish(): void {
    if (this.ended) return;
    const next = this.let(i32.add(this.record, c32(Record.size)));
    this.enter(next);
  }

  read(index: number): Value {
    const { kind, size } = this.operands[index]!;
    switch (kind) {
      case "gpr":
        return loads[size as IntegerSize](this.register(index));
      case "mem":
        return this.load(size as IntegerSize, this.linearAddress(index, "read"));
      case "imm":
        return fromI64(size as IntegerSize, i64.load(this.record, Record.immediate));
      default:
        throw new Error(`a ${kind} operand has no integer value`);
    }
  }

  readExtended(index: number): I64 {
    return signExtend(this.operands[index]!.size as IntegerSize, this.read(index));
  }

  write(index: number, value: Value): void {
    const { kind, size } = this.operands[index]!;
    if (kind === "mem") {
      const now = this.let(value);
      this.store(size as IntegerSize, this.linearAddress(index, "write"), now);
      return;
    }
    this.storeRegister(this.register(index), 0, size as IntegerSize, value);
  }

  modify(index: number, change: (old: Value) => Value): void {
    const { kind, size } = this.operands[index]!;
    if (kind === "mem") {
      this.modifyAt(size as IntegerSize, this.linearAddress(index, "write"), change);
      return;
    }
    this.write(index, change(this.read(index)));
  }

  jumpRelative(): void {
    this.ended = true;
    this.follow(Record.immediate, Record.taken);
  }

  branchRelative(condition: I32): void {
    this.ended = true;
    this.code.if(condition, () => this.follow(Record.immediate, Record.taken));
    this.follow(Record.next, Record.fallThrough);
  }

  jump(target: I64): void {
    this.ended = true;
    this.setState64(State.blockRip, target);
    this.code.tailCall(this.outside.lookup);
  }

  repeatWhile(body: () => I32, cost: I32 = c32(1)): void {
    this.code.loop((again) => {
      const more = this.let(body());
      this.code.if(more, () => {
        const budget = this.let(i32.sub(this.state32(State.budget), cost));
        this.setState32(State.budget, budget);
        this.code.brIf(again, i32.ge_s(budget, c32(0)));
        this.leave(Return.BUDGET_REPEAT);
      });
    });
  }

  /** Leaves because this record's block is no more. */
  resync(): void {
    this.ended = true;
    this.leave(Return.RESYNC);
  }

  /** The end of a block without a branch. */
  endOfBlock(): void {
    this.ended = true;
    this.follow(Record.next, Record.fallThrough);
  }

  /** Goes on at the block's start plus a distance of the record, over the chain field if that is known. */
  protected follow(distance: number, chain: number): void {
    const wide = distance === Record.immediate;
    const by = wide ? i64.load(this.record, distance) : i64.load32_u(this.record, distance);
    // 66 makes a near branch 16 bits wide outside 64-bit code; the decoder says so in the operand size.
    const size = this.bits === 64 ? 8 : wide ? this.operandSize : this.bits === 16 ? 2 : 4;
    this.setState64(State.blockRip, maskTo(size as 2 | 4 | 8, i64.add(this.state64(State.blockRip), by)));
    const target = this.let(i32.load(this.record, chain));
    this.code.if(i32.gt_u(target, c32(CHAIN_LOOKUP)), () => {
      const budget = this.let(i32.sub(this.state32(State.budget), c32(Budget.jump)));
      this.setState32(State.budget, budget);
      this.code.if(i32.lt_s(budget, c32(0)), () => this.code.return(c32(Return.BUDGET)));
      this.enter(target);
    });
    this.code.if(target, () => this.code.tailCall(this.outside.lookup));
    this.setState32(State.chain, i32.add(this.record, c32(chain)));
    this.code.return(c32(Return.LOOKUP));
  }

  protected enter(record: I32): void {
    this.code.tailCallIndirect(this.outside.handlerType, i32.load(record, Record.handler), record);
  }
}
