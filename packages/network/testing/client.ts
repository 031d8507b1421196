/**
 * What runs on a guest of the tests: `node client.ts JOB ADDRESS PORT [NUMBER [KIB]]`. It writes what it found as JSON.
 */

import { createHash } from "node:crypto";
import { createSocket } from "node:dgram";
import { connect, type Socket } from "node:net";

const [job = "", host = "", portText = "", numberText = "1", kibText = "1024"] = process.argv.slice(2);
const [port, number, kib] = [Number(portText), Number(numberText), Number(kibText)];

function open(allowHalfOpen = false): Promise<Socket> {
  const socket = connect({ host, port, allowHalfOpen });
  return new Promise((resolve, reject) => {
    socket.once("connect", () => resolve(socket));
    socket.once("error", reject);
  });
}

/** Everything until the end, as its hash; an error by its code. */
async function drain(socket: Socket): Promise<{ bytes: number; sha256: string; error?: string }> {
  const hash = createHash("sha256");
  let bytes = 0;
  try {
    for await (const data of socket) {
      hash.update(data as Buffer);
      bytes += (data as Buffer).length;
    }
    return { bytes, sha256: hash.digest("hex") };
  } catch (error) {
    return { bytes, sha256: "", error: (error as NodeJS.ErrnoException).code ?? String(error) };
  }
}

/** So many at the same time, each read to its end. */
const download = () =>
  Promise.all(Array.from({ length: number }, async () => drain(await open().then((socket) => socket.end()))));

/** Sends so many blocks, ends, and reads what comes then. */
async function upload(blocks: number, block: Buffer) {
  const socket = await open(true);
  for (let sent = 0; sent < blocks; sent++) {
    if (!socket.write(block)) await new Promise((resolve) => socket.once("drain", resolve).once("close", resolve));
    if (socket.errored) return { error: (socket.errored as NodeJS.ErrnoException).code };
  }
  socket.end();
  return drain(socket);
}

const jobs: Record<string, () => Promise<unknown>> = {
  /** How a connect fails. */
  connect: async () => {
    try {
      (await open()).destroy();
      return "connected";
    } catch (error) {
      return (error as NodeJS.ErrnoException).code;
    }
  },
  download,
  /** So many MiB of one byte. */
  upload: () => upload(number, Buffer.alloc(1 << 20, "u")),
  /** So many downloads, and four uploads of so many KiB at the same time. */
  exchange: async () => {
    const block = Buffer.alloc(1024, "u");
    const [downloads] = await Promise.all([download(), ...Array.from({ length: 4 }, () => upload(kib, block))]);
    return downloads;
  },
  /** Connects and resets. */
  reset: async () => {
    const socket = await open();
    socket.write("x");
    await new Promise((resolve) => socket.once("data", resolve));
    socket.resetAndDestroy();
    return "reset";
  },
  /** So many connections, each with a question and its answer, which stay until its input ends. */
  idle: async () => {
    const sockets: Socket[] = [];
    for (let made = 0; made < number; made++) {
      const socket = await open();
      sockets.push(socket);
      socket.write("ping");
      await new Promise((resolve, reject) => socket.once("data", resolve).once("close", reject));
    }
    process.stdout.write("connected\n");
    await new Promise((resolve) => process.stdin.once("end", resolve).resume());
    for (const socket of sockets) socket.resetAndDestroy();
    return number;
  },
  /** Connects and reads nothing until its input ends. */
  stall: async () => {
    const socket = await open();
    socket.pause();
    process.stdout.write("connected\n");
    await new Promise((resolve) => process.stdin.once("end", resolve).resume());
    return drain(socket.end());
  },
  /** So many connections, some at a time, each with a question and its answer. */
  many: async () => {
    let left = number;
    let answered = 0;
    const one = async () => {
      while (left > 0) {
        left -= 1;
        const socket = await open();
        socket.end("ping");
        const { bytes } = await drain(socket);
        if (bytes === 4) answered += 1;
      }
    };
    await Promise.all(Array.from({ length: 50 }, one));
    return answered;
  },
  /** Sends a datagram of so many bytes and waits for one. */
  datagram: async () => {
    const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
    return new Promise((resolve) => {
      socket.once("message", (data, { address }) => {
        socket.close();
        resolve({ bytes: data.length, sha256: createHash("sha256").update(data).digest("hex"), from: address });
      });
      socket.once("error", (error: NodeJS.ErrnoException) => {
        socket.close();
        resolve({ error: error.code });
      });
      socket.connect(port, host, () => socket.send(Buffer.alloc(number, "d")));
    });
  },
  /** Serves: every stream is answered with what it sent. */
  echo: async () => {
    const { createServer } = await import("node:net");
    const server = createServer({ allowHalfOpen: true }, (socket) => socket.on("error", () => {}).pipe(socket));
    server.listen(port, host === "any" ? undefined : host, () => process.stdout.write("listening\n"));
    // Of both families.
    const datagrams = createSocket("udp6");
    datagrams.on("message", (data, { address, port: from }) => datagrams.send(data, from, address));
    datagrams.bind(port);
    await new Promise(() => {});
  },
};

console.log(JSON.stringify(await jobs[job]!()));
