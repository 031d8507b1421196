/** A block job of a running machine, from its beginning to its end, with its progress on stderr. */

import { setTimeout as delay } from "node:timers/promises";
import { Progress } from "../progress.ts";
import { onSignals, signalStatus } from "../run/signals.ts";
import { type Message, QmpClient, QmpRefusal } from "./qmp-client.ts";

const LOOK_MS = 500;

export interface NewJob {
  socket: string;
  /** The disk's name, which is the job's as well. */
  disk: string;
  command: string;
  args: object;
  /** What becomes of a copy that is level with the disk: the disk goes on there, or it stays a copy of that moment. */
  whenReady: "block-job-complete" | "block-job-cancel";
}

/** How far a job of query-block-jobs is. */
export function percentOf({ offset, len }: { offset: number; len: number }): string {
  return `${Math.floor((offset / Math.max(1, len)) * 100)} %`;
}

/** Begins a job and waits for its end; a signal cancels it. Rejects when it fails; returns the command's exit status. */
export async function follow({ socket, disk, command, args, whenReady }: NewJob): Promise<number> {
  const over = Promise.withResolvers<Message>();
  const ready = Promise.withResolvers<void>();
  const progress = new Progress();
  const mine = ({ device }: Message) => device === disk;
  using client = await QmpClient.open(socket, (name, data) => {
    if (!mine(data)) return;
    if (name === "BLOCK_JOB_READY") ready.resolve();
    if (name === "BLOCK_JOB_ERROR" && data.action === "stop") {
      console.error(`lodge: a ${data.operation} failed: ${disk}'s job waits: lodge disk resume ${socket} ${disk}`);
    }
    if (name === "BLOCK_JOB_COMPLETED" || name === "BLOCK_JOB_CANCELLED") over.resolve({ ...data, name });
  });
  void client.ended.then(() => over.reject(new Error("the machine has ended, and the job with it")));
  over.promise.catch(() => {});
  // Requests go one after the other, whoever makes them.
  let turn: Promise<unknown> = Promise.resolve();
  const ask = (execute: string, more?: object) => {
    const answer = turn.then(() => client.ask(execute, more));
    turn = answer.catch(() => {});
    return answer;
  };
  const act = (execute: string) =>
    ask(execute, { device: disk }).catch((error) => {
      // It may have ended meanwhile, which is told.
      if (!(error instanceof QmpRefusal)) throw error;
    });
  let ended = false;
  let interrupted: NodeJS.Signals | undefined;
  using _signals = onSignals((signal) => {
    interrupted ??= signal;
    void act("block-job-cancel").catch(() => {});
  });
  await ask(command, { device: disk, ...args });
  void ready.promise.then(() => act(whenReady)).catch(() => {});
  const look = async () => {
    while (!ended) {
      const jobs = (await ask("query-block-jobs")) as { device: string; len: number; offset: number }[];
      const job = jobs.find(mine);
      if (job !== undefined) progress.step(`${disk}: ${percentOf(job)}`);
      await Promise.race([delay(LOOK_MS, undefined, { ref: false }), over.promise]);
    }
  };
  void look().catch(() => {});
  try {
    const { name, error } = await over.promise;
    if (typeof error === "string") throw new Error(`${disk}: the job failed: ${error}`);
    if (interrupted !== undefined) return signalStatus(interrupted);
    // A mirror that is left as a copy ends as cancelled.
    if (name === "BLOCK_JOB_CANCELLED" && whenReady !== "block-job-cancel") throw new Error(`${disk}: cancelled`);
    return 0;
  } finally {
    ended = true;
    progress.done();
  }
}
