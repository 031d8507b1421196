/** Pages of a guest's memory that the host gets back. */

import { Advice, addressOf, MapFlag, madvise, mmap, Protection } from "@lodge/linux";

/** The pages become the host's at once, and zeros to whoever touches them again. For memory that is no file. */
export function releaseToHost(pages: Uint8Array): void {
  madvise(addressOf(pages.buffer) + pages.byteOffset, pages.length, Advice.DONTNEED);
}

/** The same for memory in a file that has no name: the file has a hole there. */
export function releaseInFile(pages: Uint8Array): void {
  madvise(addressOf(pages.buffer) + pages.byteOffset, pages.length, Advice.REMOVE);
}

/** For pages of files, of which a write makes a copy: they would read as the file again. */
export function replaceByZeros(pages: Uint8Array): void {
  const flags = MapFlag.PRIVATE | MapFlag.ANONYMOUS | MapFlag.NORESERVE | MapFlag.FIXED;
  const address = addressOf(pages.buffer) + pages.byteOffset;
  mmap({ address, length: pages.length, protection: Protection.READ | Protection.WRITE, flags });
}
