/** Whoever calls at a listening socket. */

import { close, EpollEvent, Errno, tryAccept } from "@lodge/linux";
import type { Poller } from "./poller.ts";

/** Of one event, so that a flood of callers leaves the others their turn. */
const MOST_AT_ONCE = 32;

/** Hands over each connection's descriptor. The listening socket is closed in the end. */
export function acceptAt(fd: number, poller: Poller, accepted: (connection: number) => void): Disposable {
  let isOpen = true;
  const take = () => {
    for (let count = 0; isOpen; count++) {
      if (count === MOST_AT_ONCE) return void setImmediate(take);
      const connection = tryAccept(fd);
      // Nobody, or no descriptor for whoever it is: he waits until the next one comes.
      if (connection < 0 && connection !== -Errno.ECONNABORTED) return;
      if (connection >= 0) accepted(connection);
    }
  };
  poller.add(fd, (mask) => {
    if (mask & EpollEvent.IN) take();
  });
  return {
    [Symbol.dispose]: () => {
      isOpen = false;
      poller.remove(fd);
      close(fd);
    },
  };
}
