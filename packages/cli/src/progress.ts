/** What the command says while something takes long: on stderr, so that output stays what was asked for. */

/** Shorter steps are not worth a line. */
const PATIENCE_MS = 1000;

/**
 * On a terminal one line that changes and is gone at the end; elsewhere a line for each step that takes long.
 */
export class Progress implements Disposable {
  readonly #terminal = process.stderr.isTTY === true;
  #timer: NodeJS.Timeout | undefined;
  #shown = false;

  /** Something else is done from now on. */
  step(text: string): void {
    clearTimeout(this.#timer);
    // Once a line is there it follows at once.
    if (this.#shown) this.#show(text);
    else this.#timer = setTimeout(() => this.#show(text), PATIENCE_MS).unref();
  }

  /** Nothing more to wait for. */
  done(): void {
    clearTimeout(this.#timer);
    if (this.#shown && this.#terminal) process.stderr.write("\r\x1b[K");
    this.#shown = false;
  }

  [Symbol.dispose](): void {
    this.done();
  }

  #show(text: string): void {
    this.#shown = true;
    process.stderr.write(this.#terminal ? `\r\x1b[K${text} ...` : `lodge: ${text} ...\n`);
  }
}
