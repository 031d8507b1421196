/** Debian's Chromium, headless, on one page, with nothing of the user's. */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempDisposableSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const PROGRAM = "/usr/bin/chromium";

export const noChromium: string | false = existsSync(PROGRAM) ? false : "this host has no Chromium (Debian: chromium)";

const FLAGS = [
  ...["--headless", "--disable-gpu", "--no-first-run", "--disable-quic", "--disable-sync"],
  ...["--disable-background-networking", "--disable-component-update", "--disable-extensions", "--mute-audio"],
  // Where tests run, root is all there is, and /dev/shm may be small.
  ...["--no-sandbox", "--disable-dev-shm-usage", "--no-zygote"],
];

/** The most that is kept of what it says. */
const SAID = 4000;

export class Chromium implements AsyncDisposable {
  /** Rejects when it ends by itself. */
  readonly ended: Promise<never>;
  readonly #process: ChildProcess;
  readonly #closed: Promise<unknown>;
  readonly #profile: Disposable & { path: string };
  #closing = false;

  constructor(url: string) {
    this.#profile = mkdtempDisposableSync(join(tmpdir(), "lodge-chromium-"));
    // It has processes of its own: they are a group, which ends as one.
    this.#process = spawn(PROGRAM, [...FLAGS, `--user-data-dir=${this.#profile.path}`, url], {
      detached: true,
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, TMPDIR: this.#profile.path },
    });
    // Which is when none of them has the pipe any more.
    this.#closed = once(this.#process, "close");
    let said = "";
    this.#process.stderr!.setEncoding("utf8").on("data", (text: string) => {
      said = (said + text).slice(-SAID);
    });
    this.ended = once(this.#process, "exit").then(([code, signal]) => {
      if (!this.#closing) throw new Error(`Chromium ended with ${code ?? signal}; it said:\n${said}`);
      return new Promise<never>(() => {});
    });
    this.ended.catch(() => {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing = true;
    const { pid } = this.#process;
    try {
      if (pid !== undefined) process.kill(-pid, "SIGKILL");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
    await this.#closed;
    this.#profile[Symbol.dispose]();
  }
}
