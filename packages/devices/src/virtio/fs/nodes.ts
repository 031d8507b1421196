/** What the guest's kernel knows of the share: nodes by number, each as often as it has looked it up, and open files. */

import { descriptorLimit, HeldFile } from "../shared-folder/held-file.ts";
import { Errno, Refusal } from "../shared-folder/refusal.ts";
import type { FileStat, Share } from "../shared-folder/share.ts";
import { ROOT } from "./layout.ts";

/** Each holds a descriptor: most of what this process may have. */
const MOST = Math.floor((descriptorLimit() * 3) / 4);

interface Node {
  readonly file: HeldFile;
  /** Device and inode, by which it is found again. */
  readonly key: string;
  lookups: number;
}

export class Nodes {
  readonly #share: Share;
  readonly #nodes = new Map<number, Node>();
  readonly #numbers = new Map<string, number>();
  readonly #handles = new Map<number, HeldFile>();
  #nextNode = ROOT + 1;
  #nextHandle = 1;

  constructor(share: Share) {
    this.#share = share;
  }

  /** The pinned descriptor of a node. */
  pinned(number: number): number {
    let node = this.#nodes.get(number);
    if (node === undefined && number === ROOT) {
      node = { file: new HeldFile(this.#share.pinRoot()), key: "", lookups: 1 };
      this.#nodes.set(ROOT, node);
    }
    if (node === undefined) throw new Refusal(Errno.ESTALE);
    return node.file.pinned;
  }

  /** Counts a lookup of what `pinned` names, which is the callee's from here on; returns the node's number and state. */
  add(pinned: number): { number: number; stat: FileStat } {
    const file = new HeldFile(pinned);
    try {
      const stat = this.#share.stat(pinned);
      const key = `${stat.dev}:${stat.ino}`;
      const known = this.#numbers.get(key);
      if (known !== undefined) {
        this.#nodes.get(known)!.lookups += 1;
        file.release();
        return { number: known, stat };
      }
      this.#mayHoldMore();
      const number = this.#nextNode++;
      this.#nodes.set(number, { file, key, lookups: 1 });
      this.#numbers.set(key, number);
      return { number, stat };
    } catch (error) {
      file.release();
      throw error;
    }
  }

  forget(number: number, lookups: number): undefined {
    const node = this.#nodes.get(number);
    if (node === undefined || number === ROOT) return;
    node.lookups -= lookups;
    if (node.lookups > 0) return;
    node.file.release();
    this.#nodes.delete(number);
    this.#numbers.delete(node.key);
  }

  /** An open file, by the number that it gets. */
  open(fd: number, flags: number): number {
    const file = new HeldFile(fd);
    file.setOpened(fd, flags);
    try {
      this.#mayHoldMore();
    } catch (error) {
      file.release();
      throw error;
    }
    const handle = this.#nextHandle++;
    this.#handles.set(handle, file);
    return handle;
  }

  opened(handle: number): HeldFile {
    const file = this.#handles.get(handle);
    if (file === undefined) throw new Refusal(Errno.EBADF);
    return file;
  }

  release(handle: number): undefined {
    this.opened(handle).release();
    this.#handles.delete(handle);
  }

  clear(): undefined {
    for (const { file } of this.#nodes.values()) file.release();
    for (const file of this.#handles.values()) file.release();
    this.#nodes.clear();
    this.#numbers.clear();
    this.#handles.clear();
  }

  #mayHoldMore(): void {
    if (this.#nodes.size + this.#handles.size >= MOST) throw new Refusal(Errno.ENFILE);
  }
}
