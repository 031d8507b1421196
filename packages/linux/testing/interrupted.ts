/** A thread that tells its number, waits for an eventfd that nobody rings, and says how many rang when it comes back. */

import { parentPort } from "node:worker_threads";
import { Epoll, EpollEvent, Eventfd, gettid } from "../src/index.ts";

using eventfd = new Eventfd();
using epoll = new Epoll();
epoll.add(eventfd.fd, EpollEvent.IN);
parentPort!.postMessage(gettid());
parentPort!.postMessage(epoll.wait());
