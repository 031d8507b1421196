/**
 * System calls at the least cost there is, for those that come hundreds of thousands of times a second (KVM_RUN) or one behind
 * the other (creating a machine): koffi calls a function without arguments by a path of its own, and converting three of them
 * takes as long as the rest of the call, once the kernel has emptied the processor's caches and predictors. So the arguments
 * lie in memory, from where a few instructions of ours load them; and the kernel's -errno comes back as the result, which
 * spares looking for it.
 */

import { SystemError } from "./errors.ts";
import { koffi } from "./koffi.ts";
import { bind, lastErrno } from "./libc.ts";

/** asm/unistd_64.h of x86-64; asm-generic/unistd.h, which arm64 has. */
export const SystemCall =
  process.arch === "arm64"
    ? {
        openat: 56,
        close: 57,
        getrusage: 165,
        clock_gettime: 113,
        ioctl: 29,
        madvise: 233,
        munmap: 215,
        mmap: 222,
        mprotect: 226,
        getrandom: 278,
      }
    : {
        openat: 257,
        close: 3,
        getrusage: 98,
        clock_gettime: 228,
        mmap: 9,
        mprotect: 10,
        munmap: 11,
        ioctl: 16,
        madvise: 28,
        getrandom: 318,
      };

/** Makes a call of up to three arguments whose result has 31 bits; returns it, or the negative `errno`. */
export function trySyscall(number: number, a = 0, b = 0, c = 0): number {
  return call(number, a, b, c);
}

/** ioctl(2), of which KVM_RUN is one: {@link trySyscall} with the least work. */
export function tryDirectIoctl(fd: number, request: number, argument: number): number {
  return ioctl(fd, request, argument);
}

/** Makes a call of up to six arguments; returns its whole result, or the negative `errno`. */
export function trySyscall6(number: number, a: number, b: number, c: number, d: number, e: number, f: number): number {
  return call6(number, a, b, c, d, e, f);
}

type Call = (number: number, a: number, b: number, c: number) => number;
type Ioctl = (fd: number, request: number, argument: number) => number;
type Call6 = (number: number, a: number, b: number, c: number, d: number, e: number, f: number) => number;

// Made at the first use, for each thread: the arguments lie in one place.
let call: Call = (...args) => {
  prepare();
  return call(...args);
};
let ioctl: Ioctl = (...args) => {
  prepare();
  return ioctl(...args);
};
let call6: Call6 = (...args) => {
  prepare();
  return call6(...args);
};

function prepare(): void {
  const syscall = bind<Call6>("intptr_t syscall(long, intptr_t, intptr_t, intptr_t, intptr_t, intptr_t, intptr_t)");
  const byLibc: Call6 = (...args) => {
    const result = syscall(...args);
    return result < 0 ? -lastErrno() : result;
  };
  if (process.arch !== "x64") {
    call6 = byLibc;
    call = (number, a, b, c) => call6(number, a, b, c, 0, 0, 0);
    ioctl = (fd, request, argument) => call(SystemCall.ioctl, fd, request, argument);
    return;
  }
  // A buffer of its own: small typed arrays may move.
  const words = new Int32Array(new ArrayBuffer(8 * WORDS));
  const invoke = machineCode(Number(koffi.address(words)), byLibc);
  const put = (word: number, value: number) => {
    words[word] = value;
    words[word + 1] = Math.floor(value / 2 ** 32);
  };
  call = (number, a, b, c) => {
    words[NUMBER] = number;
    put(ARGUMENTS, a);
    put(ARGUMENTS + 2, b);
    put(ARGUMENTS + 4, c);
    return invoke();
  };
  ioctl = (fd, request, argument) => {
    words[NUMBER] = SystemCall.ioctl;
    // The kernel takes 32 bits of each, whatever the upper halves are.
    words[ARGUMENTS] = fd;
    words[ARGUMENTS + 2] = request;
    put(ARGUMENTS + 4, argument);
    return invoke();
  };
  call6 = (number, a, b, c, d, e, f) => {
    put(ARGUMENTS + 6, d);
    put(ARGUMENTS + 8, e);
    put(ARGUMENTS + 10, f);
    call(number, a, b, c);
    return words[RESULT + 1]! * 2 ** 32 + (words[RESULT]! >>> 0);
  };
}

/** The call's 64-bit words, by their low halves. */
const NUMBER = 0;
const ARGUMENTS = 2;
const RESULT = 14;
const WORDS = 8;

const PAGE = 4096;
const PROT_READ_WRITE = 3;
const PROT_READ_EXEC = 5;
const MAP_PRIVATE_ANONYMOUS = 0x22;

/**
 * A function that makes the call whose words lie at an address, and returns the low half of its result. Linux's calling
 * convention (syscall(2)) on x86-64; encodings from Intel SDM vol. 2. Its page goes with the thread.
 */
function machineCode(words: number, byLibc: Call6): () => number {
  const code = new Uint8Array([
    ...[0x48, 0xb8, ...new Uint8Array(new BigUint64Array([BigInt(words)]).buffer)], // mov rax, words
    ...[0x48, 0x8b, 0x78, 0x08], // mov rdi, [rax + 8]
    ...[0x48, 0x8b, 0x70, 0x10], // mov rsi, [rax + 16]
    ...[0x48, 0x8b, 0x50, 0x18], // mov rdx, [rax + 24]
    ...[0x4c, 0x8b, 0x50, 0x20], // mov r10, [rax + 32]
    ...[0x4c, 0x8b, 0x40, 0x28], // mov r8, [rax + 40]
    ...[0x4c, 0x8b, 0x48, 0x30], // mov r9, [rax + 48]
    0x50, // push rax
    ...[0x8b, 0x00], // mov eax, [rax]
    ...[0x0f, 0x05], // syscall
    0x59, // pop rcx
    ...[0x48, 0x89, 0x41, 0x38], // mov [rcx + 56], rax
    0xc3, // ret
  ]);
  const page = mapCode(code, byLibc);
  process.once("exit", () => byLibc(SystemCall.munmap, page, PAGE, 0, 0, 0, 0));
  return koffi.decode(BigInt(page), koffi.proto("int DirectSyscall()")) as () => number;
}

/** A page that is run and not written any more, with this machine code; `syscall` makes calls as {@link trySyscall6} does. */
export function mapCode(code: Uint8Array, syscall: Call6): number {
  const page = syscall(SystemCall.mmap, 0, PAGE, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0);
  if (page < 0) throw new SystemError(-page, "mmap", "a page for code");
  new Uint8Array(koffi.view(BigInt(page), code.length)).set(code);
  const refused = syscall(SystemCall.mprotect, page, PAGE, PROT_READ_EXEC, 0, 0, 0);
  if (refused < 0) throw new SystemError(-refused, "mprotect", "a page of code");
  return page;
}
