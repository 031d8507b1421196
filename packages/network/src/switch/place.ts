/**
 * Where a network's switch is found while it runs: a socket and a file. The file is locked by who serves the network, and holds the
 * addresses that were given to machines.
 */

import { closeSync, constants, ftruncateSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { Fcntl, lockRange } from "@lodge/linux";
import { checkNetworkName } from "../definition/definition.ts";
import { runtimeFolder } from "../host/runtime-folder.ts";

export interface SwitchPlace {
  readonly socket: string;
  readonly file: string;
}

export function switchPlace(name: string): SwitchPlace {
  const base = join(runtimeFolder(), `net-${checkNetworkName(name)}`);
  return { socket: `${base}.sock`, file: `${base}.json` };
}

/** The file, locked: as long as it is open there is no other switch of that name. */
export class SwitchFile implements Disposable {
  readonly #fd: number;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Undefined while another process has it. */
  static take(place: SwitchPlace): SwitchFile | undefined {
    const fd = openSync(place.file, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
    if (lockRange(fd, Fcntl.WRLCK, 0, 1)) return new SwitchFile(fd);
    closeSync(fd);
    return undefined;
  }

  /** What was written last; undefined for nothing, or for what a crash left half written. */
  read(): unknown {
    try {
      return JSON.parse(readFileSync(this.#fd, "utf8"));
    } catch {
      return undefined;
    }
  }

  write(value: unknown): void {
    const bytes = Buffer.from(JSON.stringify(value));
    ftruncateSync(this.#fd, 0);
    writeSync(this.#fd, bytes, 0, bytes.length, 0);
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

/** What a network that nobody serves has left. */
export function forgetSwitch(name: string): void {
  const { socket, file } = switchPlace(name);
  rmSync(socket, { force: true });
  rmSync(file, { force: true });
}
