/** Compiled code as a subject: every block that a case comes to is the head of a region before it is entered. */

import { Compiler } from "../src/compiler/compiler.ts";
import { type Block, canBegin } from "../src/interpreter/block.ts";
import type { Blocks } from "../src/interpreter/blocks.ts";
import { decodeImage, encodeImage } from "../src/interpreter/code-image.ts";
import type { FuzzCase } from "./case.ts";
import { InterpreterSubject } from "./interpreter.ts";
import { MEMORY_BYTES } from "./layout.ts";
import type { Outcome } from "./outcome.ts";

/** Blocks of a case; programs that change themselves may show more and more. */
const MAX_BLOCKS = 64;

export class CompiledSubject extends InterpreterSubject {
  override readonly name = "compiled";
  readonly #compiler = new Compiler(this.blocks, this.handlers, MEMORY_BYTES);
  /** Decoded since the last time that something was compiled. */
  readonly #fresh = new Set<Block>();
  #entered = false;

  /** With all that the block leads to, so that branches and loops lie within a region. */
  protected override prepare(rip: bigint): Block | undefined {
    const first = super.prepare(rip);
    const blocks = new Set<Block>();
    const collect = (block: Block | undefined) => {
      if (block !== undefined && canBegin(block)) blocks.add(block);
    };
    collect(first);
    for (const block of blocks) {
      if (block.region === undefined) this.#fresh.add(block);
      if (blocks.size > MAX_BLOCKS) break;
      for (const host of [block.edges.taken, block.edges.fallThrough]) {
        // What lies in other pages has no place in this region.
        if (host === undefined || host >> 12 !== first!.host >> 12) continue;
        collect(super.prepare(rip + BigInt(host - first!.host)));
      }
    }
    return first;
  }

  /** One module for all: a module for each case's would take most of the time. */
  protected override loaded(): void {
    // Decoding may have made everything be forgotten meanwhile.
    const heads = [...this.#fresh].filter((block) => this.blocks.at(block.host, block.mode) === block);
    if (heads.length > 0) this.#compiler.compile(heads);
    this.#fresh.clear();
  }

  protected override reached(rip: bigint): void {
    const block = this.prepare(rip);
    this.loaded();
    if (block?.region !== undefined) this.#entered = true;
  }

  protected override often(region: number, base: bigint, rip: bigint): void {
    extend(this.#compiler, this.blocks, region, base, rip);
  }

  override run(fuzzCase: FuzzCase, outcome: Outcome): void {
    this.#entered = false;
    super.run(fuzzCase, outcome);
    if (this.#entered || outcome.ending === "unable") return;
    outcome.ending = "unable";
    outcome.reason = "nothing to compile";
  }
}

/** The software CPU as it decides itself what to compile: by looking around, and by what regions ask for. */
export class SampledSubject extends InterpreterSubject {
  override readonly name: string = "sampled";
  protected override readonly slice = 61;
  readonly #compiler = new Compiler(this.blocks, this.handlers, MEMORY_BYTES);

  protected override lookedAround(rip: bigint): void {
    const block = super.prepare(rip);
    if (block !== undefined) this.#compiler.sample(block);
  }

  protected override often(region: number, base: bigint, rip: bigint): void {
    extend(this.#compiler, this.blocks, region, base, rip);
  }
}

/** The same, with what became of its code recorded for another, or with what another recorded. */
export class RecordedSubject extends SampledSubject {
  override readonly name: string;

  /** `of`: the one that ran the same cases in a memory like this. */
  constructor(of?: RecordedSubject) {
    super();
    this.name = of === undefined ? "recorded" : "recorded before";
    const image = of?.blocks.image();
    if (of === undefined) this.blocks.record();
    else if (image === undefined) throw new Error("too little was recorded");
    else if (!this.blocks.use(decodeImage(new Uint8Array(encodeImage(image)))))
      throw new Error("the image does not fit");
  }

  /** How much of it was of use. */
  get reuse(): ReturnType<Blocks["reuse"]> {
    return this.blocks.reuse();
  }
}

function extend(compiler: Compiler, blocks: Blocks, region: number, base: bigint, rip: bigint): void {
  const block = blocks.peek(rip, 0n);
  if (block !== undefined) compiler.extend(region, block, Number(BigInt.asIntN(64, rip - base)));
}
