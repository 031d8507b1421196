/** A mirror of a disk that nobody writes, from its beginning to a target that is its copy, beside QEMU's storage daemon. */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { createImage, Drive, openImage } from "@lodge/storage";
import { startMirror } from "@lodge/storage/jobs";
import { type Comparison, compare } from "../harness.ts";

const GIB = 2 ** 30;

/** A disk of 1 GiB, all of it data. */
export async function mirrors(at: (name: string) => string, rounds: number): Promise<Comparison[]> {
  const [source, target, socket] = [at("mirrored.qcow2"), at("mirror"), at("qmp")];
  await createImage(source, { format: "qcow2", sizeBytes: GIB });
  const image = await openImage(source, { format: "qcow2" });
  const data = Buffer.alloc(1 << 20);
  for (let index = 0; index < data.length; index++) data[index] = (index * 2654435761) >>> 13;
  for (let start = 0; start < GIB; start += data.length) await image.write(start, [data]);
  await image.close();
  const results: Comparison[] = [];
  for (const format of ["raw", "qcow2"]) {
    const anew = async () => {
      rmSync(target, { force: true });
      await createImage(target, { format, sizeBytes: GIB });
    };
    results.push(
      await compare({
        what: `mirror of 1 GiB of data to ${format}`,
        unit: "ms",
        rounds,
        limit: 1,
        ours: async () => {
          await anew();
          return await ours(source, target, format);
        },
        theirs: async () => {
          await anew();
          return await theirs(source, target, format, socket);
        },
      }),
    );
  }
  for (const file of [source, target]) rmSync(file);
  return results;
}

async function ours(source: string, target: string, format: string): Promise<number> {
  const drive = await Drive.open(source, { format: "qcow2" });
  try {
    const copy = await openImage(target, { format });
    const start = performance.now();
    const job = await startMirror(drive, copy, { targetIsZero: true });
    job.watch(({ event }) => {
      if (event === "ready") job.cancel();
    });
    if ((await job.ended) !== "completed") throw job.error ?? new Error("the mirror was not completed");
    return performance.now() - start;
  } finally {
    await drive.close();
  }
}

async function theirs(source: string, target: string, format: string, path: string): Promise<number> {
  const server = createServer().listen(path);
  await once(server, "listening");
  const nodes = [
    `driver=file,filename=${source},node-name=source-file`,
    "driver=qcow2,file=source-file,node-name=source",
    `driver=file,filename=${target},node-name=target-file`,
    `driver=${format},file=target-file,node-name=target`,
  ];
  const monitor = ["--chardev", `socket,path=${path},id=monitor`, "--monitor", "chardev=monitor"];
  const daemon = spawn("qemu-storage-daemon", [...nodes.flatMap((node) => ["--blockdev", node]), ...monitor], {
    stdio: "ignore",
  });
  try {
    const [socket] = (await Promise.race([once(server, "connection"), failure(daemon)])) as [Socket];
    let said = "";
    let wake = () => {};
    socket.setEncoding("utf8").on("data", (text) => {
      said += text;
      wake();
    });
    const until = async (what: string) => {
      while (!said.includes(what)) {
        if (said.includes('"error"')) throw new Error(`qemu-storage-daemon: ${said}`);
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    };
    const ask = (execute: string, args: object = {}) => socket.write(JSON.stringify({ execute, arguments: args }));
    ask("qmp_capabilities");
    await until('"return"');
    const start = performance.now();
    ask("blockdev-mirror", { "job-id": "job", device: "source", target: "target", sync: "full" });
    await until("BLOCK_JOB_READY");
    ask("block-job-cancel", { device: "job" });
    await until("BLOCK_JOB_COMPLETED");
    return performance.now() - start;
  } finally {
    server.close();
    daemon.kill();
    if (daemon.exitCode === null && daemon.signalCode === null) await once(daemon, "exit");
  }
}

async function failure(daemon: ChildProcess): Promise<never> {
  const [status] = await once(daemon, "exit");
  throw new Error(`qemu-storage-daemon ended with ${status}`);
}
