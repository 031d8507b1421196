/** The image tiny with devices of a test's choosing: what Debian's own drivers make of them. */

import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { ConsoleDevice, type VirtioDevice } from "@lodge/devices";
import { Pc } from "@lodge/machine";
import { prepareImage } from "../src/images/store.ts";

const missing = ["apt-get", "dpkg-deb", "xz"].find((program) => spawnSync(program, ["--version"]).error !== undefined);
/** Why no guest can be had here, for `skip`. */
export const noGuest = missing === undefined ? false : `${missing} is not installed`;

/** The shell's prompt, by which it says that it is there. */
const PROMPT = "# ";
/** Around a command's output; typed in two halves, so that the echo of what is typed is not taken for it. */
const BEGIN = "@@begin@@";
const END = "@@end@@";

/**
 * A guest whose shell on the serial console does what the test says. (Not by the agent, which is behind the console device
 * that is tested here.)
 */
export class TinyGuest implements AsyncDisposable {
  readonly machine: Pc;
  readonly console: ConsoleDevice;
  /** The serial console, and hvc0, the console device's terminal: what was said and is not yet taken. */
  readonly #said = { serial: "", terminal: "" };
  /** Who waits for more. */
  #waiting: (() => void)[] = [];
  #ended: string | undefined;
  /** Commands, one after the other. */
  #last: Promise<unknown> = Promise.resolve();

  private constructor(machine: Pc, console: ConsoleDevice) {
    this.machine = machine;
    this.console = console;
    machine.ended.then(
      ({ reason }) => {
        this.#ended = reason;
        this.#wake();
      },
      () => {},
    );
  }

  /** Resolves when the shell is there. `append`: more for the kernel's command line. */
  static async boot(devices: readonly VirtioDevice[], append = ""): Promise<TinyGuest> {
    const image = await prepareImage("tiny");
    let guest: TinyGuest | undefined;
    const hear = (from: "serial" | "terminal") => (bytes: Uint8Array) => {
      guest?.hear(from, bytes);
      return true;
    };
    const console = new ConsoleDevice({ ports: [{ console: true, onData: hear("terminal") }] });
    const machine = await Pc.create({
      accelerator: "soft",
      memoryBytes: 256 << 20,
      cpus: { count: 1 },
      kernel: await readFile(image.kernel),
      initrd: await readFile(image.initrd),
      commandLine: `${image.append} ${append}`,
      serial: [hear("serial")],
      virtio: [console, ...devices],
    });
    guest = new TinyGuest(machine, console);
    machine.start();
    await guest.until("serial", PROMPT);
    return guest;
  }

  #wake(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }

  hear(from: "serial" | "terminal", bytes: Uint8Array): void {
    this.#said[from] += Buffer.from(bytes).toString("latin1");
    this.#wake();
  }

  /** Waits for a text, and takes everything up to its end; returns what was before it. */
  async until(from: "serial" | "terminal", text: string): Promise<string> {
    for (;;) {
      const said = this.#said[from];
      const end = said.indexOf(text);
      if (end >= 0) {
        this.#said[from] = said.slice(end + text.length);
        return said.slice(0, end);
      }
      if (this.#ended !== undefined) throw new Error(`the guest has ended (${this.#ended}):\n${this.#said.serial}`);
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  /** Runs a shell script in the guest; returns what it writes. A status other than 0 is an error that shows it. */
  run(script: string): Promise<string> {
    const result = this.#last.then(() => this.#runNow(script));
    this.#last = result.catch(() => {});
    return result;
  }

  async #runNow(script: string): Promise<string> {
    const type = (line: string) => this.machine.serial[0]!.write(`${line}\n`);
    const halves = (mark: string) => `${mark.slice(0, 3)}""${mark.slice(3)}`;
    // A terminal takes lines of 4 KiB.
    const encoded =
      Buffer.from(script)
        .toString("base64")
        .match(/.{1,2000}/g) ?? [];
    type(`: >/tmp/script`);
    for (const part of encoded) type(`printf ${part} >>/tmp/script`);
    type(
      `base64 -d /tmp/script >/tmp/job; sh /tmp/job >/tmp/out 2>&1 </dev/null; s=$?; echo ${halves(BEGIN)}; cat /tmp/out; echo ${halves(END)}$s.`,
    );
    await this.until("serial", `${BEGIN}\r\n`);
    const output = (await this.until("serial", END)).replaceAll("\r\n", "\n");
    const status = await this.until("serial", ".");
    if (status !== "0") throw new Error(`${script}\nended with ${status}:\n${output}`);
    return output;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.machine.stop();
  }
}
