import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { CLOSED, openDescriptors, refused } from "../testing/refusal.ts";
import { Clock, Epoll, EpollEvent, Eventfd, Timerfd, watchReadable } from "./events.ts";
import { close, read, write } from "./file.ts";
import { addressOf } from "./memory.ts";
import { socketpair } from "./sockets.ts";

test("an eventfd counts signals until they are taken", () => {
  using event = new Eventfd();
  assert.equal(event.take(), 0);
  event.signal();
  event.signal();
  event.signal();
  assert.equal(event.take(), 3);
  assert.equal(event.take(), 0);
  assert.match(readFileSync(`/proc/self/fdinfo/${event.fd}`, "utf8"), /eventfd-count:\s+0/);
});

test("an eventfd calls back on the event loop with what was added", async () => {
  using event = new Eventfd();
  const { promise, resolve } = Promise.withResolvers<number>();
  event.signal();
  event.signal();
  event.watch(resolve);
  assert.equal(await promise, 2);
  assert.equal(event.take(), 0);
});

test("an eventfd has one watch at a time; a disposed one calls no more", async () => {
  using event = new Eventfd();
  const calls: string[] = [];
  const first = event.watch(() => calls.push("first"));
  assert.throws(() => event.watch(() => {}), { message: `eventfd ${event.fd} is already watched` });
  event.signal();
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  const { promise, resolve } = Promise.withResolvers<void>();
  event.watch(() => resolve(void calls.push("second")));
  await promise;
  assert.deepEqual(calls, ["second"]);
});

test("descriptors are closed once and leave none behind", () => {
  const before = openDescriptors();
  for (const make of [() => new Eventfd(), () => new Timerfd(), () => new Epoll()]) {
    const one = make();
    assert.equal(openDescriptors(), before + 1);
    one.close();
    one.close();
    one[Symbol.dispose]();
    assert.equal(openDescriptors(), before);
  }
  const watched = new Eventfd();
  watched.watch(() => {});
  watched.close();
  assert.equal(openDescriptors(), before);
});

test("a thread blocked in epoll is woken by another thread's signal", async () => {
  using silent = new Eventfd();
  using ringing = new Eventfd();
  const worker = new Worker(new URL("../testing/waiter.ts", import.meta.url), {
    workerData: { fds: [silent.fd, ringing.fd] },
  });
  // Asked for now: Node may report the last message and the end in one go.
  const exit = once(worker, "exit");
  assert.deepEqual(await once(worker, "message"), ["waiting"]);
  ringing.signal();
  const [woken] = await once(worker, "message");
  assert.deepEqual(woken, { count: 1, fd: ringing.fd, events: EpollEvent.IN, taken: 1 });
  await exit;
  assert.equal(ringing.take(), 0, "the other thread took it");
});

test("epoll reports what is ready, what for, and no more than its capacity", () => {
  using epoll = new Epoll(2);
  using one = new Eventfd();
  using two = new Eventfd();
  using three = new Eventfd();
  for (const event of [one, two, three]) epoll.add(event.fd, EpollEvent.IN);
  assert.equal(epoll.wait(0), 0);
  two.signal();
  assert.equal(epoll.wait(0), 1);
  assert.equal(epoll.ready(0), two.fd);
  assert.equal(epoll.readyEvents(0), EpollEvent.IN);
  one.signal();
  three.signal();
  assert.equal(epoll.wait(0), 2);

  epoll.remove(two.fd);
  epoll.modify(three.fd, EpollEvent.IN | EpollEvent.OUT);
  one.take();
  assert.equal(epoll.wait(0), 1);
  assert.equal(epoll.ready(0), three.fd);
  assert.equal(epoll.readyEvents(0), EpollEvent.IN | EpollEvent.OUT);
});

test("an edge-triggered descriptor is reported once for each signal", () => {
  using epoll = new Epoll();
  using event = new Eventfd();
  epoll.add(event.fd, EpollEvent.IN | EpollEvent.ET);
  event.signal();
  assert.equal(epoll.wait(0), 1);
  assert.equal(epoll.wait(0), 0);
  event.signal();
  assert.equal(epoll.wait(0), 1);
  assert.equal(event.take(), 2);
});

test("epoll tells of the other side's end", () => {
  using epoll = new Epoll();
  const [ours, theirs] = socketpair();
  epoll.add(ours, EpollEvent.IN);
  close(theirs);
  assert.equal(epoll.wait(), 1);
  assert.equal(epoll.readyEvents(0), EpollEvent.IN | EpollEvent.HUP);
  close(ours);
});

test("a timer fires after its delay, as epoll and its own clock see it", () => {
  using timer = new Timerfd();
  using epoll = new Epoll();
  epoll.add(timer.fd, EpollEvent.IN);
  const before = process.hrtime.bigint();
  timer.set(2_000_000);
  assert.equal(epoll.wait(), 1);
  assert.ok(process.hrtime.bigint() - before >= 2_000_000n);
  assert.equal(timer.take(), 1);
  assert.equal(timer.take(), 0);
  assert.equal(timer.remainingNs(), 0);
});

test("a timer keeps its time across the seconds and is disarmed by 0", () => {
  for (const clock of Object.values(Clock)) {
    using timer = new Timerfd(clock);
    assert.equal(timer.remainingNs(), 0);
    const delay = 3600e9 + 999_999_999;
    timer.set(delay, 1.5e9);
    const remaining = timer.remainingNs();
    assert.ok(remaining <= delay && remaining > delay - 60e9, `${remaining} ns`);
    timer.set(0);
    assert.equal(timer.remainingNs(), 0);
    assert.equal(timer.take(), 0);
  }
});

test("an interval fires again and again", () => {
  using timer = new Timerfd();
  using epoll = new Epoll();
  epoll.add(timer.fd, EpollEvent.IN);
  timer.set(1, 1000);
  for (let fired = 0; fired < 3; ) {
    assert.equal(epoll.wait(), 1);
    fired += timer.take();
  }
});

test("watchReadable calls while there is something to read and leaves the descriptor open", async () => {
  const [ours, theirs] = socketpair();
  const byte = new Uint8Array([7]);
  const { promise, resolve } = Promise.withResolvers<void>();
  let calls = 0;
  using _watch = watchReadable(ours, () => {
    read(ours, addressOf(byte), 1);
    calls += 1;
    if (calls === 2) resolve();
  });
  write(theirs, addressOf(byte), 1);
  write(theirs, addressOf(byte), 1);
  await promise;
  assert.equal(calls, 2);
  _watch[Symbol.dispose]();
  assert.equal(write(ours, addressOf(byte), 1), 1, "still open");
  close(ours);
  close(theirs);
});

test("each refusal names its call and its argument", () => {
  const dead = new Eventfd();
  dead.close();
  const gone = `eventfd ${dead.fd}`;
  refused(() => dead.signal(), "EBADF", "write", gone);
  refused(() => dead.take(), "EBADF", "read", gone);
  refused(() => new Timerfd(99), "EINVAL", "timerfd_create", "clock 99");
  using timer = new Timerfd();
  refused(() => timer.set(-1), "EINVAL", "timerfd_settime", `fd ${timer.fd}, -1 ns`);
  const stopped = new Timerfd();
  stopped.close();
  refused(() => stopped.remainingNs(), "EBADF", "timerfd_gettime", `fd ${stopped.fd}`);
  refused(() => stopped.take(), "EBADF", "read", `timerfd ${stopped.fd}`);
  using epoll = new Epoll();
  refused(() => epoll.add(CLOSED, EpollEvent.IN), "EBADF", "epoll_ctl", `fd ${CLOSED}`);
  refused(() => epoll.modify(timer.fd, EpollEvent.IN), "ENOENT", "epoll_ctl", `fd ${timer.fd}`);
  refused(() => epoll.remove(timer.fd), "ENOENT", "epoll_ctl", `remove fd ${timer.fd}`);
  using empty = new Epoll(0);
  refused(() => empty.wait(0), "EINVAL", "epoll_wait", `fd ${empty.fd}`);
});
