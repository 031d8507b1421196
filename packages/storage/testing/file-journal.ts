/** What is done to files while a test runs, also by threads that write by themselves, so that a power cut can be played at any moment. */

import { readFileSync, readlinkSync, readSync } from "node:fs";
import { mock } from "node:test";
import { type CopiedPart, PartCopier } from "@lodge/linux/part-copier";
import { RangeCopier } from "@lodge/linux/range-copier";
import { HostFile } from "../src/file/host-file.ts";
import { type Clock, JournalStore } from "./journal-store.ts";
import type { Random } from "./random.ts";

type Method = "write" | "writeZeroes" | "discard" | "resize" | "flush";

export class FileJournal implements Disposable {
  /** Moves on with every step of any file. */
  readonly clock: Clock = { now: 0 };
  readonly #files = new Map<string, JournalStore>();
  readonly #mocks: { restore(): void }[] = [];

  /** Begins to record what becomes of these files; what they hold now is lasting. */
  constructor(paths: readonly string[]) {
    for (const path of paths) this.#files.set(path, JournalStore.of(readFileSync(path), this.clock));
    this.#on("write", (journal, [offset, pieces]) => {
      const bytes = new Uint8Array(Buffer.concat(pieces));
      return journal.begin({ kind: "write", offset, bytes });
    });
    const zeros = (journal: JournalStore, [offset, length]: [number, number, ...unknown[]]) =>
      journal.begin({ kind: "write", offset, bytes: new Uint8Array(length) });
    this.#on("writeZeroes", zeros);
    // A hole does not make a file longer.
    this.#on("discard", (journal, [offset, length]) =>
      zeros(journal, [offset, Math.max(0, Math.min(length, journal.sizeBytes - offset))]),
    );
    this.#on("resize", (journal, [sizeBytes]) => journal.begin({ kind: "resize", sizeBytes }));
    this.#on("flush", (journal) => journal.begin({ kind: "flush" }));
    this.#copier(PartCopier);
    this.#copier(RangeCopier);
  }

  #on<Name extends Method>(
    name: Name,
    begin: (journal: JournalStore, args: Parameters<HostFile[Name]>) => () => void,
  ): void {
    const files = this.#files;
    const original = HostFile.prototype[name] as (...args: unknown[]) => Promise<void>;
    const recorded = async function (this: HostFile, ...args: Parameters<HostFile[Name]>): Promise<void> {
      const journal = files.get(this.name);
      const end = journal && begin(journal, args);
      await original.apply(this, args);
      end?.();
    };
    this.#mocks.push(mock.method(HostFile.prototype, name, recorded as never).mock);
  }

  /** Threads copy between `copy` being called and its end. */
  #copier(Copier: typeof PartCopier | typeof RangeCopier): void {
    const files = this.#files;
    const lists = new WeakMap<object, CopiedPart[]>();
    const { push, clear, copy } = Copier.prototype as PartCopier;
    const recorded = {
      push(this: PartCopier, part: CopiedPart): void {
        if (!lists.has(this)) lists.set(this, []);
        lists.get(this)!.push(part);
        push.call(this, part);
      },
      clear(this: PartCopier): void {
        lists.delete(this);
        clear.call(this);
      },
      async copy(this: PartCopier, ...args: Parameters<PartCopier["copy"]>): Promise<void> {
        const parts = lists.get(this) ?? [];
        const bytesOf = (fd: number, offset: number, length: number) => {
          const bytes = new Uint8Array(length);
          readSync(fd, bytes, 0, length, offset);
          return bytes;
        };
        const journals = parts.map(({ toFd }) => files.get(readlinkSync(`/proc/self/fd/${toFd}`)));
        for (const [index, { fromFd, from, to, length }] of parts.entries()) {
          journals[index]?.begin({ kind: "write", offset: to, bytes: bytesOf(fromFd, from, length) });
        }
        await copy.apply(this, args);
        for (const [index, { toFd, to, length }] of parts.entries()) {
          if (this.done(index))
            journals[index]?.begin({ kind: "write", offset: to, bytes: bytesOf(toFd, to, length) })();
        }
      },
    };
    for (const name of ["push", "clear", "copy"] as const) {
      this.#mocks.push(mock.method(Copier.prototype as PartCopier, name, recorded[name] as never).mock);
    }
  }

  /** What each file holds after a power cut at a moment of the clock. */
  cutAt(moment: number, random: Random): Map<string, Uint8Array> {
    return new Map([...this.#files].map(([path, journal]) => [path, journal.cutAt(moment, random).content()]));
  }

  [Symbol.dispose](): void {
    for (const one of this.#mocks) one.restore();
  }
}
