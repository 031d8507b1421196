/** A thread that waits in epoll for the eventfds it is given, says which one rang and how far it counted, and ends. */

import { parentPort, workerData } from "node:worker_threads";
import { Epoll, EpollEvent, Eventfd } from "../src/index.ts";

const { fds }: { fds: number[] } = workerData;
using epoll = new Epoll();
for (const fd of fds) epoll.add(fd, EpollEvent.IN);
parentPort!.postMessage("waiting");
const count = epoll.wait();
const fd = epoll.ready(0);
// The main thread owns the descriptor: this Eventfd is not closed.
parentPort!.postMessage({ count, fd, events: epoll.readyEvents(0), taken: new Eventfd(fd).take() });
