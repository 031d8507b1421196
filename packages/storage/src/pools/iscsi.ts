/** The disks of an iSCSI target, through the host's initiator (iscsiadm(8) and iscsid). */

import { StorageError } from "../errors.ts";
import { DevicePool } from "./device.ts";
import { type Capacity, elsewhere, fullOf, type Pool, type Volume } from "./pool.ts";
import { run, type Tool } from "./tools.ts";

export interface IscsiOptions {
  /** HOST or HOST:PORT. */
  portal: string;
  /** The target's name, iqn.2003-01.org.example:disks. Secrets (CHAP) are the host's affair: /etc/iscsi/iscsid.conf. */
  target: string;
}

const ISCSIADM: Tool = { program: "iscsiadm", package: "open-iscsi" };
/** iscsiadm(8), exit statuses: 15 is "session exists", 21 "no objects found". */
const SESSION_EXISTS = 15;
const NO_OBJECTS = 21;

export class IscsiPool implements Pool {
  readonly kind = "iscsi";
  readonly #options: IscsiOptions;
  #loggedIn = false;

  constructor(options: IscsiOptions) {
    for (const text of [options.portal, options.target]) {
      if (!/^[A-Za-z0-9[][\w.:[\]-]{0,254}$/.test(text)) {
        throw new StorageError("STORAGE_OPEN", `${JSON.stringify(text)} is no iSCSI portal or target`);
      }
    }
    this.#options = options;
  }

  async start(): Promise<void> {
    const { portal } = this.#options;
    await run(ISCSIADM, "--mode", "discovery", "--type", "sendtargets", "--portal", portal);
    this.#loggedIn = await this.#node("--login").then(
      () => true,
      (error) => {
        if (statusOf(error) === SESSION_EXISTS) return false;
        throw error;
      },
    );
  }

  /** A session that was there before stays. */
  async stop(): Promise<void> {
    if (this.#loggedIn) await this.#node("--logout");
    this.#loggedIn = false;
  }

  async capacity(): Promise<Capacity> {
    return fullOf(await this.volumes());
  }

  /** Its units, lun-0 and so on; where multipath goes over them, its devices. */
  async volumes(): Promise<Volume[]> {
    const sessions = await run(ISCSIADM, "--mode", "session", "--print", "3").catch((error) => {
      if (statusOf(error) === NO_OBJECTS) return "";
      throw error;
    });
    const units = parseSessions(sessions, this.#options.target);
    const devices = await new DevicePool(units.map(({ device }) => device)).volumes();
    return devices.map((volume, index) => ({ ...volume, name: `lun-${units[index]!.lun}` }));
  }

  async create(): Promise<never> {
    return elsewhere("making a unit", "the target's administrator does it");
  }

  async clone(): Promise<never> {
    return elsewhere("cloning a unit", "the target's administrator does it");
  }

  async resize(): Promise<never> {
    return elsewhere("resizing a unit", "the target's administrator does it");
  }

  async remove(): Promise<never> {
    return elsewhere("removing a unit", "the target's administrator does it");
  }

  async #node(action: "--login" | "--logout"): Promise<void> {
    const { portal, target } = this.#options;
    await run(ISCSIADM, "--mode", "node", "--targetname", target, "--portal", portal, action);
  }
}

/** What `iscsiadm --mode session --print 3` says of a target's units: "Lun: 1", then "Attached scsi disk sdb". */
export function parseSessions(text: string, target: string): { lun: number; device: string }[] {
  const units = new Map<number, string>();
  let mine = false;
  let lun: number | undefined;
  for (const line of text.split("\n")) {
    const name = /^\s*Target:\s+(\S+)/.exec(line)?.[1];
    if (name !== undefined) mine = name === target;
    const number = /\bLun:\s+(\d+)/.exec(line)?.[1];
    if (number !== undefined) lun = Number(number);
    const disk = /Attached scsi disk\s+([a-z0-9]+)/.exec(line)?.[1];
    // Each portal of the target has the same units.
    if (mine && lun !== undefined && disk !== undefined && !units.has(lun)) units.set(lun, `/dev/${disk}`);
  }
  return [...units].map(([number, device]) => ({ lun: number, device })).sort((one, other) => one.lun - other.lun);
}

function statusOf(error: unknown): unknown {
  return error instanceof StorageError ? (error.cause as { code?: unknown } | undefined)?.code : undefined;
}
