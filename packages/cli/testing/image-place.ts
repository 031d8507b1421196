/** A folder in which `lodge image` and qemu-img work side by side. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempDisposableSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const bin = join(import.meta.dirname, "../bin/lodge.js");
/** Why a test that needs these programs cannot run here; false when it can. */
export function missing(...programs: string[]): string | false {
  const absent = programs.filter((name) => spawnSync(name, ["--version"]).error !== undefined);
  return absent.length > 0 && `${absent.join(", ")}: not installed`;
}

export const skip = missing("qemu-img", "qemu-io");

/** A folder that commands run in. */
export class Place implements Disposable {
  readonly #folder = mkdtempDisposableSync(join(tmpdir(), "lodge-cli-image-"));

  path(name: string): string {
    return join(this.#folder.path, name);
  }

  run(program: string, ...args: string[]): { status: number | null; stdout: string; stderr: string } {
    return spawnSync(program, args, { cwd: this.#folder.path, encoding: "utf8" });
  }

  lodge(...args: string[]): string {
    const { status, stdout, stderr } = this.run(process.execPath, bin, "image", ...args);
    assert.equal(status, 0, `lodge image ${args.join(" ")}: ${stderr}`);
    return stdout;
  }

  qemu(...args: string[]): string {
    const { status, stdout, stderr } = this.run("qemu-img", ...args);
    assert.equal(status, 0, `qemu-img ${args.join(" ")}: ${stdout}${stderr}`);
    return stdout;
  }

  io(image: string, ...commands: string[]): void {
    const { status, stdout } = this.run("qemu-io", image, ...commands.flatMap((text) => ["-c", text]));
    assert.ok(status === 0 && !/failed/.test(stdout), stdout);
  }

  [Symbol.dispose](): void {
    this.#folder[Symbol.dispose]();
  }
}

/** A command that is refused: with status 2 and one line. */
export function refused(place: Place, args: readonly string[], said: RegExp): void {
  const { status, stderr } = place.run(process.execPath, bin, "image", ...args);
  assert.equal(status, 2, `lodge image ${args.join(" ")}: ${stderr}`);
  assert.match(stderr, said);
  assert.equal(stderr.trimEnd().split("\n").length, 1, stderr);
}
