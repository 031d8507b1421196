/**
 * ioctl(2) at the least cost there is, for requests that are made hundreds of thousands of times a second (KVM_RUN): koffi
 * calls a function without arguments by a path of its own, and converting three of them takes as long as the rest of the
 * call, once the request has emptied the processor's caches and predictors. So the arguments lie in memory, from where a few
 * instructions of ours load them; and the kernel's -errno comes back as the result, which spares looking for it.
 */

import koffi from "koffi";
import { addressOf, MapFlag, mmap, mprotect, munmap, Protection } from "./memory.ts";

type Ioctl = (fd: number, request: number, argument: number) => number;

/** The call's words: three u64, of which 32 bits each would do for the first two. */
const FD = 0;
const REQUEST = 2;
const ARGUMENT = 4;

const PAGE = 4096;
const SYS_IOCTL = 16;

/** Makes the call for this thread, whose arguments lie in one place. Its page goes with the thread. */
export function directIoctl(): Ioctl {
  // A buffer of its own: small typed arrays may move.
  const words = new Int32Array(new ArrayBuffer(24));
  const page = mmap({
    length: PAGE,
    protection: Protection.READ | Protection.WRITE,
    flags: MapFlag.PRIVATE | MapFlag.ANONYMOUS,
  });
  const code = machineCode(addressOf(words));
  new Uint8Array(koffi.view(BigInt(page), code.length)).set(code);
  mprotect(page, PAGE, Protection.READ | Protection.EXEC);
  process.once("exit", () => munmap(page, PAGE));

  const call = koffi.decode(BigInt(page), koffi.proto("int DirectIoctl()")) as () => number;
  return (fd, request, argument) => {
    words[FD] = fd;
    words[REQUEST] = request;
    words[ARGUMENT] = argument;
    words[ARGUMENT + 1] = argument / 2 ** 32;
    return call();
  };
}

/** Linux's calling convention (syscall(2)) on x86-64; encodings from Intel SDM vol. 2. */
function machineCode(words: number): Uint8Array {
  const code = new DataView(new ArrayBuffer(32));
  const bytes = new Uint8Array(code.buffer);
  bytes.set([0x48, 0xb8], 0); // mov rax, words
  code.setBigUint64(2, BigInt(words), true);
  bytes.set([0x8b, 0x78, FD * 4], 10); // mov edi, [rax]
  bytes.set([0x8b, 0x70, REQUEST * 4], 13); // mov esi, [rax + 8]
  bytes.set([0x48, 0x8b, 0x50, ARGUMENT * 4], 16); // mov rdx, [rax + 16]
  bytes.set([0xb8, SYS_IOCTL], 20); // mov eax, SYS_IOCTL
  bytes.set([0x0f, 0x05], 25); // syscall
  bytes.set([0xc3], 27); // ret
  return bytes;
}
