/**
 * Writes that the kernel does beside this thread: io_uring(7), as much of it as that takes. The kernel has a thread for them
 * which goes from one to the next by itself, one at a time for each file.
 */

import { SystemCall, trySyscall, trySyscall6 } from "./direct-syscall.ts";
import { Errno, SystemError } from "./errors.ts";
import { close, writeNumber64 } from "./file.ts";
import { addressOf, MapFlag, Mapping, Protection } from "./memory.ts";

/** linux/io_uring.h: what mmap(2) maps of the ring's descriptor. */
export const RingOffset = { RINGS: 0, SUBMISSIONS: 0x10000000 } as const;
/** Operations, and what is asked of one besides. */
export const RingOperation = { WRITE: 23 } as const;
export const SubmissionFlag = { ASYNC: 1 << 4 } as const;
export const EnterFlag = { GETEVENTS: 1 } as const;
/** IORING_FEAT_*: both rings are in one mapping. */
export const RingFeature = { SINGLE_MMAP: 1 } as const;

/** struct io_uring_params; the two tables of offsets begin at `SUBMISSIONS` and `COMPLETIONS`. */
export const RingParameters = { FEATURES: 20, SUBMISSIONS: 40, COMPLETIONS: 80, SIZE: 120 } as const;
/** struct io_sqring_offsets and io_cqring_offsets. */
export const SubmissionOffsets = { TAIL: 4, MASK: 8, ENTRIES: 12, ARRAY: 24 } as const;
export const CompletionOffsets = { HEAD: 0, TAIL: 4, MASK: 8, ENTRIES: 12, ENTRY: 20 } as const;
/** struct io_uring_sqe and io_uring_cqe. */
export const Submission = {
  OPCODE: 0,
  FLAGS: 1,
  FD: 4,
  OFFSET: 8,
  ADDRESS: 16,
  LENGTH: 24,
  TAG: 32,
  SIZE: 64,
} as const;
export const Completion = { TAG: 0, RESULT: 8, SIZE: 16 } as const;

export class IoUring implements Disposable {
  readonly #fd: number;
  readonly #rings: Mapping;
  readonly #submissions: Mapping;
  readonly #words: Int32Array;
  readonly #entries: DataView;
  /** Where in `words` the fields are. */
  readonly #sqTail: number;
  readonly #sqArray: number;
  readonly #sqMask: number;
  readonly #cqHead: number;
  readonly #cqTail: number;
  readonly #cqEntries: number;
  readonly #cqMask: number;
  #underWay = 0;

  private constructor(fd: number, parameters: DataView) {
    const submission = (field: number) => parameters.getUint32(RingParameters.SUBMISSIONS + field, true);
    const completion = (field: number) => parameters.getUint32(RingParameters.COMPLETIONS + field, true);
    this.#fd = fd;
    const shared = { protection: Protection.READ | Protection.WRITE, flags: MapFlag.SHARED | MapFlag.POPULATE, fd };
    const count = submission(SubmissionOffsets.ENTRIES);
    const submissionBytes = submission(SubmissionOffsets.ARRAY) + count * 4;
    const entriesAt = completion(CompletionOffsets.ENTRY);
    const completionBytes = entriesAt + completion(CompletionOffsets.ENTRIES) * Completion.SIZE;
    const length = Math.max(submissionBytes, completionBytes);
    this.#rings = new Mapping({ ...shared, length, offset: RingOffset.RINGS });
    try {
      this.#submissions = new Mapping({ ...shared, length: count * Submission.SIZE, offset: RingOffset.SUBMISSIONS });
    } catch (cause) {
      this.#rings.close();
      throw cause;
    }
    this.#words = new Int32Array(this.#rings.buffer, 0, length >> 2);
    this.#entries = new DataView(this.#submissions.buffer);
    this.#sqTail = submission(SubmissionOffsets.TAIL) >> 2;
    this.#sqArray = submission(SubmissionOffsets.ARRAY) >> 2;
    this.#sqMask = this.#words[submission(SubmissionOffsets.MASK) >> 2]!;
    this.#cqHead = completion(CompletionOffsets.HEAD) >> 2;
    this.#cqTail = completion(CompletionOffsets.TAIL) >> 2;
    this.#cqMask = this.#words[completion(CompletionOffsets.MASK) >> 2]!;
    this.#cqEntries = entriesAt >> 2;
    // Where each entry is submitted from, for good.
    for (let index = 0; index < count; index++) this.#words[this.#sqArray + index] = index;
  }

  /** A ring for so many writes; undefined where there is none: an old kernel, or a container that forbids it. */
  static tryOpen(capacity: number): IoUring | undefined {
    const parameters = new DataView(new ArrayBuffer(RingParameters.SIZE));
    const fd = trySyscall(SystemCall.io_uring_setup, capacity, addressOf(parameters));
    if (fd < 0) return undefined;
    try {
      if (parameters.getUint32(RingParameters.FEATURES, true) & RingFeature.SINGLE_MMAP)
        return new IoUring(fd, parameters);
    } catch (cause) {
      close(fd);
      throw cause;
    }
    close(fd);
    return undefined;
  }

  /** Writes that were asked for and not taken. */
  get underWay(): number {
    return this.#underWay;
  }

  get isFull(): boolean {
    return this.#underWay > this.#sqMask;
  }

  /**
   * Asks for a write of `length` bytes at `address` to an offset of a file, which stay what they are until {@link take} has told
   * of `tag`, a number of 32 bits. The ring is not full.
   */
  write(fd: number, address: number, length: number, offset: number, tag: number): void {
    const tail = this.#words[this.#sqTail]!;
    const at = (tail & this.#sqMask) * Submission.SIZE;
    const entries = this.#entries;
    new Uint8Array(entries.buffer, at, Submission.SIZE).fill(0);
    entries.setUint8(at + Submission.OPCODE, RingOperation.WRITE);
    // Never in this thread, whatever the file system could do at once.
    entries.setUint8(at + Submission.FLAGS, SubmissionFlag.ASYNC);
    entries.setInt32(at + Submission.FD, fd, true);
    writeNumber64(entries, at + Submission.OFFSET, offset);
    writeNumber64(entries, at + Submission.ADDRESS, address);
    entries.setUint32(at + Submission.LENGTH, length, true);
    entries.setUint32(at + Submission.TAG, tag, true);
    Atomics.store(this.#words, this.#sqTail, (tail + 1) | 0);
    const taken = this.#enter(1, 0, 0);
    if (taken !== 1) throw new SystemError(taken < 0 ? -taken : Errno.EAGAIN, "io_uring_enter", `fd ${fd}, a write`);
    this.#underWay += 1;
  }

  /** Tells of each write that is done: its tag, and how many bytes were written or the negative `errno`. */
  take(done: (tag: number, result: number) => void): void {
    const words = this.#words;
    for (let head = words[this.#cqHead]!; head !== Atomics.load(words, this.#cqTail); ) {
      const entry = this.#cqEntries + (head & this.#cqMask) * (Completion.SIZE >> 2);
      const tag = words[entry]!;
      const result = words[entry + (Completion.RESULT >> 2)]!;
      head = (head + 1) | 0;
      Atomics.store(words, this.#cqHead, head);
      this.#underWay -= 1;
      done(tag, result);
    }
  }

  /** Waits, and this thread with it, until there is something to {@link take}. */
  wait(): void {
    const result = this.#enter(0, 1, EnterFlag.GETEVENTS);
    if (result < 0) throw new SystemError(-result, "io_uring_enter", "waiting for a write");
  }

  #enter(submitted: number, wanted: number, flags: number): number {
    for (;;) {
      const result = trySyscall6(SystemCall.io_uring_enter, this.#fd, submitted, wanted, flags, 0, 0);
      if (result !== -Errno.EINTR) return result;
    }
  }

  /** Nothing is under way any more. */
  [Symbol.dispose](): void {
    this.#submissions.close();
    this.#rings.close();
    close(this.#fd);
  }
}
