/** What a check finds: all is counted, and the first of it told. */

const MOST_MESSAGES = 200;

export class Findings {
  corruptions = 0;
  leaks = 0;
  readonly messages: string[] = [];

  /** Content is in danger. */
  corrupt(message: string): void {
    this.corruptions += 1;
    this.#tell(message);
  }

  /** Space is lost. */
  leak(message: string, clusters = 1): void {
    this.leaks += clusters;
    this.#tell(message);
  }

  #tell(message: string): void {
    if (this.messages.length < MOST_MESSAGES) this.messages.push(message);
  }
}
