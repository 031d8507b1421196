/** The terminal that a machine's console is shown on: raw while the machine runs, and as before on every way out. */

import { ESCAPE_HELP, EscapeKeys } from "./escape.ts";

export interface TerminalUser {
  /** Bytes for the guest. */
  typed(bytes: Uint8Array): void;
  /** Ctrl-A x, or the terminal is gone. */
  quit(): void;
  resized(rows: number, columns: number): void;
}

/** Takes standard input for a machine. What is no terminal is passed on as it is; its end ends nothing. */
export function takeTerminal(user: TerminalUser): Disposable {
  const { stdin, stdout } = process;
  using undo = new DisposableStack();
  const terminal = stdin.isTTY === true;
  if (terminal) {
    stdin.setRawMode(true);
    const restore = () => stdin.setRawMode(false);
    // Also when something of ours fails on the way.
    process.on("exit", restore);
    undo.defer(() => {
      process.off("exit", restore);
      restore();
    });
  }
  const keys = new EscapeKeys();
  const onData = (bytes: Buffer) => {
    if (!terminal) return user.typed(bytes);
    const { forward, command } = keys.feed(bytes);
    if (forward.length > 0) user.typed(forward);
    if (command === "quit") user.quit();
    else if (command === "help") process.stderr.write(`\r\n${ESCAPE_HELP}\r\n`);
  };
  const onEnd = () => {
    if (terminal) user.quit();
  };
  stdin.on("data", onData).on("end", onEnd).on("error", onEnd);
  undo.defer(() => {
    stdin.off("data", onData).off("end", onEnd).off("error", onEnd);
    stdin.pause();
  });
  if (stdout.isTTY) {
    const onResize = () => user.resized(stdout.rows, stdout.columns);
    stdout.on("resize", onResize);
    undo.defer(() => stdout.off("resize", onResize));
    onResize();
  }
  return undo.move();
}
