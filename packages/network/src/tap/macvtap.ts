/**
 * A macvtap: a station of its own on a device of the host's, whose other end is a character device (drivers/net/macvtap.c). It stays
 * when its process goes, so a locked file says that there is one and whose; the next that is made deletes what was left.
 */

import { closeSync, constants, openSync, readdirSync, readFileSync, readlinkSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { canLockRange, Fcntl, lockRange, randomBytes } from "@lodge/linux";
import { NetworkError } from "../errors.ts";
import { Interfaces } from "../host/interface.ts";
import { deleteLink, type MacvtapMode, makeMacvtap } from "../host/links.ts";
import { runtimeFolder } from "../host/runtime-folder.ts";

const SYSFS = "/sys/class/net";
/** Longer than a name that an administrator would choose, and without a meaning to anybody. */
const NAME = /^lodge[0-9a-f]{8}$/;

/** The character device of a macvtap that exists; undefined for every other device. */
export function macvtapPath(name: string): string | undefined {
  try {
    const [tap] = readdirSync(join(SYSFS, name, "macvtap"));
    return tap === undefined ? undefined : `/dev/${tap}`;
  } catch {
    return undefined;
  }
}

/** Its address: the only one whose frames it gives. */
export function macOf(name: string): string {
  return readFileSync(join(SYSFS, name, "address"), "utf8").trim();
}

/** One of our own, deleted when this is. */
export class OwnMacvtap implements Disposable {
  readonly name = `lodge${randomBytes(4).toString("hex")}`;
  readonly #mark: Mark;

  constructor(lower: string, mode: MacvtapMode, mac: Uint8Array) {
    const what = `macvtap on ${lower}`;
    using interfaces = new Interfaces();
    deleteLeftOver(interfaces);
    const index = interfaces.index(lower);
    if (index === undefined) {
      throw new NetworkError(
        "NETWORK_CONFIG",
        `${what}: this host has no device of that name; ip link says which it has`,
      );
    }
    this.#mark = new Mark(this.name);
    try {
      makeMacvtap(this.name, index, mode, mac, what);
      interfaces.setUp(this.name);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Its character device, which the kernel made with it, and no udev has to. */
  get path(): string {
    const path = macvtapPath(this.name);
    if (path !== undefined) return path;
    throw new NetworkError(
      "NETWORK_HOST",
      `${this.name}: ${SYSFS} does not show this network's devices; mount sysfs anew`,
    );
  }

  [Symbol.dispose](): void {
    using interfaces = new Interfaces();
    const index = interfaces.index(this.name);
    if (index !== undefined) deleteLink(index);
    this.#mark.remove();
  }
}

/** The network that this process has, as a number: others' devices are not ours to delete, nor to be found here. */
function networkId(): string {
  return /\d+/.exec(readlinkSync("/proc/thread-self/ns/net"))![0];
}

const PREFIX = "macvtap-";

class Mark {
  readonly #path: string;
  readonly #fd: number;

  constructor(name: string) {
    this.#path = join(runtimeFolder(), `${PREFIX}${networkId()}-${name}`);
    // It has that name only when it is locked: who finds one that is not deletes it.
    const unlocked = `${this.#path}.new`;
    this.#fd = openSync(
      unlocked,
      constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
      0o600,
    );
    lockRange(this.#fd, Fcntl.WRLCK, 0, 1);
    renameSync(unlocked, this.#path);
  }

  remove(): void {
    rmSync(this.#path, { force: true });
    closeSync(this.#fd);
  }
}

/** What processes have left that were killed. */
function deleteLeftOver(interfaces: Interfaces): void {
  const folder = runtimeFolder();
  const ours = `${PREFIX}${networkId()}-`;
  for (const file of readdirSync(folder)) {
    const name = file.slice(ours.length);
    if (!file.startsWith(ours) || !NAME.test(name)) continue;
    const path = join(folder, file);
    const fd = openSync(path, constants.O_RDWR | constants.O_NOFOLLOW);
    try {
      if (!canLockRange(fd, Fcntl.WRLCK, 0, 1)) continue;
      const index = interfaces.index(name);
      if (index !== undefined) deleteLink(index);
      rmSync(path, { force: true });
    } finally {
      closeSync(fd);
    }
  }
}
