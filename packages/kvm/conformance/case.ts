/** What a case is, and what it is given. */

import { type Capability, capabilityName, type Hypervisor } from "../src/index.ts";
import type { Context } from "./context.ts";
import type { AssembledGuest, Guest } from "./guest.ts";
import type { ThreadHandle } from "./port.ts";

/** One small guest and what must come of it. Its name is a statement about KVM. */
export interface Case {
  readonly name: string;
  /** What the case's machine runs. */
  readonly guest?: Guest;
  /** Further guests, by name. */
  readonly guests?: Readonly<Record<string, Guest>>;
  /** Why this host cannot pass the case, if it cannot. */
  unsupported?(host: Host): string | undefined;
  /** How long the case may take on this host, where that is more than the suite's limit. */
  limitMs?(host: Host): number | undefined;
  run(t: Context): void | Promise<void>;
}

/** The cases of one theme. */
export interface Group {
  readonly name: string;
  readonly cases: readonly Case[];
}

/** One implementation of the interface, with what the suite needs around it. */
export interface Host {
  /** The implementation's name in test names. */
  readonly name: string;
  readonly hypervisor: Hypervisor;
  /** The host's kernel interprets ring 0 code, and may not know every instruction. */
  readonly interprets: boolean;
  /** Its processor is QEMU's emulation of one, whose virtualization has gaps. */
  readonly tcg: boolean;
  /** Loops and counts at full length, however long it takes. */
  readonly thorough: boolean;
  assemble(guest: Guest): AssembledGuest;
  /** A new thread that serves the protocol of thread.ts on this implementation. */
  startThread(): ThreadHandle;
}

/** For {@link Case.unsupported}: the host must have all of these capabilities. */
export function needs(...capabilities: Capability[]): (host: Host) => string | undefined {
  return ({ hypervisor }) => {
    const missing = capabilities.filter((capability) => hypervisor.checkExtension(capability) <= 0);
    return missing.length === 0 ? undefined : `this host's KVM lacks ${missing.map(capabilityName).join(" and ")}`;
  };
}
