/** What the thread that compiles shares with the thread of one vCPU, and that thread's side of it. */

import { type MessagePort, receiveMessageOnPort } from "node:worker_threads";
import type { CompileThread } from "@lodge/softkvm";

export interface CompilerLink {
  readonly port: MessagePort;
  /** {@link LinkWord}. */
  readonly words: SharedArrayBuffer;
}

/** How the thread that compiles is, and how many orders it has answered: with one message each. */
export const LinkWord = { state: 0, answers: 1, count: 2 } as const;
export const LinkState = { UNUSED: 0, WANTED: 1, READY: 2, GONE: 3 } as const;

/** What the software processor orders by. */
export function compileThread({ port, words }: CompilerLink): CompileThread {
  const shared = new Int32Array(words);
  let taken = 0;
  return {
    get isReady() {
      return Atomics.load(shared, LinkWord.state) === LinkState.READY;
    },
    want: () => {
      const { UNUSED, WANTED } = LinkState;
      if (Atomics.compareExchange(shared, LinkWord.state, UNUSED, WANTED) === UNUSED) {
        Atomics.notify(shared, LinkWord.state);
      }
    },
    order: (order) => port.postMessage(order, [order.members.buffer, order.seeds.buffer, order.code.buffer]),
    take: () => {
      // Asking the port takes microseconds, and a vCPU asks at each look around.
      if (Atomics.load(shared, LinkWord.answers) === taken) return undefined;
      taken += 1;
      return receiveMessageOnPort(port)!.message ?? "nothing";
    },
  };
}
