/** What a case is handed: it makes machines, threads and notifiers, all of which are closed when the case ends. */

import type { Hypervisor, KickHandle, Notifier } from "../src/index.ts";
import type { Case, Host } from "./case.ts";
import { ok, Unsupported } from "./check.ts";
import type { AssembledGuest } from "./guest.ts";
import { Machine, type MachineOptions } from "./machine.ts";
import type { Session } from "./session.ts";
import { type VcpuOptions, VcpuThread } from "./vcpu-thread.ts";

export class Context implements AsyncDisposable {
  readonly host: Host;
  readonly hypervisor: Hypervisor;
  readonly #case: Case;
  readonly #session: Session;
  readonly #resources = new AsyncDisposableStack();

  constructor(one: Case, session: Session) {
    this.#case = one;
    this.#session = session;
    this.host = session.host;
    this.hypervisor = session.host.hypervisor;
  }

  /** A machine with one vCPU at the start of the case's guest, unless the options say otherwise. */
  machine(options: MachineOptions = {}): Machine {
    return this.#resources.use(new Machine(this, options));
  }

  /** A vCPU on a thread of its own. */
  async thread(machine: Machine, options: VcpuOptions): Promise<VcpuThread> {
    const thread = this.#session.takeThread();
    const vcpu = this.#resources.use(await VcpuThread.open(this, machine, thread, options));
    this.watch(vcpu.kickHandle);
    return vcpu;
  }

  notifier(): Notifier {
    return this.#resources.use(this.hypervisor.createNotifier());
  }

  /** Resolves when the notifier is signalled. */
  rings(notifier: Notifier): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.use(notifier.watch(() => resolve()));
    return promise;
  }

  /** Closes something else at the case's end. */
  use<T extends Disposable>(resource: T): T {
    return this.#resources.use(resource);
  }

  /** The case's guest, or one of its further guests by name. */
  assembled(name?: string): AssembledGuest {
    const guest = name === undefined ? this.#case.guest : this.#case.guests?.[name];
    ok(guest !== undefined, name === undefined ? "the case has no guest" : `the case has no guest "${name}"`);
    return this.host.assemble(guest);
  }
  modeOf(name?: string) {
    return (name === undefined ? this.#case.guest : this.#case.guests?.[name])?.mode;
  }

  /** Ends the case as skipped. */
  skip(reason: string): never {
    throw new Unsupported(reason);
  }

  /**
   * Ends the case as skipped if the host is of this kind and shows a known shortcoming of it: `found` is what the case has
   * just seen. On any other host the same finding is for the case to fail on.
   */
  excuse(found: boolean, kind: "interprets" | "tcg", shortcoming: string): void {
    if (!found || !this.host[kind]) return;
    this.skip(
      kind === "tcg"
        ? `this host's processor is QEMU's TCG, which ${shortcoming}`
        : `this host's kernel interprets ring 0 and ${shortcoming}`,
    );
  }

  /** Puts a vCPU under the watchdog. */
  watch(kick: KickHandle): void {
    this.#session.watch(kick);
  }
  giveBack(thread: Parameters<Session["giveBack"]>[0]): void {
    this.#session.giveBack(thread);
  }
  get expired(): boolean {
    return this.#session.expired;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#resources.disposeAsync();
  }
}
