/** The stack without a guest: a synthetic one in this process, which acknowledges all that it gets and sends as fast as it may. */

import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { Nat } from "@lodge/network";
import type { Figure } from "../harness.ts";
import { SyntheticGuest } from "./synthetic-guest.ts";

const BYTES = 2 ** 31;
const IDLE = 1000;

async function listen(serve: (socket: Socket) => void) {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    serve(socket);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return { server, port: (server.address() as AddressInfo).port };
}

export async function stackAlone(): Promise<Figure[]> {
  using nat = new Nat({ loopback: true });
  const guest = new SyntheticGuest(nat);
  const block = Buffer.alloc(1 << 20);
  const source = await listen((socket) => {
    let left = BYTES;
    const fill = () => {
      while (left > 0) {
        left -= block.length;
        if (!socket.write(block)) return;
      }
      socket.end();
    };
    socket.on("drain", fill);
    fill();
  });
  const sink = await listen((socket) => socket.resume());
  const gbits = async (bytes: () => Promise<number>) => {
    const start = performance.now();
    return ((await bytes()) * 8) / 1e6 / (performance.now() - start);
  };
  const down = await gbits(() => guest.receiveAll(source.port));
  const up = await gbits(() => guest.sendAll(sink.port, BYTES));
  global.gc?.();
  const before = process.memoryUsage().rss;
  const idle = await listen(() => {});
  for (let count = 0; count < IDLE; count++) await guest.open(idle.port);
  const grown = (process.memoryUsage().rss - before) / 2 ** 20;
  nat.reset();
  for (const { server } of [source, sink, idle]) server.close();
  return [
    { what: "the stack alone, to the guest", unit: "Gbit/s", value: down },
    { what: "the stack alone, from the guest", unit: "Gbit/s", value: up },
    { what: "1000 idle connections, with their peers in this process", unit: "MiB", value: grown },
  ];
}
