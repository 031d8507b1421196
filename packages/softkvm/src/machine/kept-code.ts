/** What is known of the guest's code beyond the guests' ends: taken over from an earlier one, kept for the next. */

import type { CpuState } from "../cpu/state.ts";
import type { Blocks } from "../interpreter/blocks.ts";
import { decodeImage, encodeImage } from "../interpreter/code-image.ts";
import type { MemoryMap } from "../mmu/memory-map.ts";
import { type CodeStore, codeKey } from "./code-store.ts";

export class KeptCode {
  /** Which instructions there are: what is known was decoded for these. */
  features: ReadonlySet<string> = new Set();
  readonly #store: CodeStore | undefined;
  readonly #blocks: Blocks;
  /** Nothing until {@link begin}. */
  #key = "";

  constructor(store: CodeStore | undefined, blocks: Blocks) {
    this.#store = store;
    this.#blocks = blocks;
  }

  /** Before the guest runs from `rip` on: takes over what is known of its code, or begins to remember what becomes of it. */
  begin(state: CpuState, rip: bigint, map: MemoryMap): void {
    if (this.#store === undefined) return;
    this.#key = codeKey(state, this.features, rip, map);
    const known = this.#store.get(this.#key);
    if (known === undefined || !this.#blocks.use(decodeImage(known))) this.#blocks.record();
  }

  /** The guest has ended: what is known of its code is for the next one. What was of little use is made anew then, by the next one. */
  keep(): void {
    if (this.#store === undefined || this.#key === "") return;
    const reuse = this.#blocks.reuse();
    if (reuse !== undefined && reuse.decoded > reuse.used) {
      this.#store.drop(this.#key);
      return;
    }
    if (!this.#blocks.isWorthKeeping) return;
    const image = this.#blocks.image();
    if (image !== undefined) this.#store.keep(this.#key, encodeImage(image));
  }
}
