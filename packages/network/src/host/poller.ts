/** The descriptors that this thread's event loop waits for, behind one that it polls: each costs an entry in the kernel, no object here. */

import { Epoll, EpollEvent, watchReadable } from "@lodge/linux";

/** Told what happened: a mask of `EpollEvent`. Edge triggered: what it leaves undone it is not told again. */
export type Ready = (events: number) => void;

const MOST_AT_ONCE = 256;
/** linux/eventpoll.h: the peer sends no more. */
export const RDHUP = 0x2000;

export class Poller implements Disposable {
  readonly #epoll = new Epoll(MOST_AT_ONCE);
  readonly #watch = watchReadable(this.#epoll.fd, () => this.#serve());
  readonly #ready = new Map<number, Ready>();

  add(fd: number, ready: Ready): void {
    this.#epoll.add(fd, EpollEvent.IN | EpollEvent.OUT | RDHUP | EpollEvent.ET);
    this.#ready.set(fd, ready);
  }

  /** Before the descriptor is closed. */
  remove(fd: number): void {
    if (this.#ready.delete(fd)) this.#epoll.remove(fd);
  }

  get size(): number {
    return this.#ready.size;
  }

  #serve(): void {
    const count = this.#epoll.wait(0);
    // A number that was closed and given anew meanwhile is told of an event that it did not have; it finds nothing then.
    for (let index = 0; index < count; index++) {
      this.#ready.get(this.#epoll.ready(index))?.(this.#epoll.readyEvents(index));
    }
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
    this.#epoll.close();
  }
}
