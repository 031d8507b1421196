/**
 * The FUSE server of a shared folder. It keeps nothing of files but descriptors; what the guest's kernel may not cache (times
 * of validity are 0), it asks again.
 */

import { constants, fsync } from "node:fs";
import { promisify } from "node:util";
import { close } from "@lodge/linux";
import { folderEntries } from "../shared-folder/entries.ts";
import { Errno, Refusal } from "../shared-folder/refusal.ts";
import type { Share } from "../shared-folder/share.ts";
import { attributes, EntryList, entry, opened, space } from "./answers.ts";
import { Answer, Fixed, InitFlag, Opcode, ROOT, SetAttr, Valid, VERSION } from "./layout.ts";
import { Nodes } from "./nodes.ts";
import type { FuseRequest } from "./request.ts";

/** What one read or write may move; a queue's chain has room for that many pages. */
const MOST_BYTES = 124 * 4096;

const sync = promisify(fsync);

/** The answer's body, or how many bytes of it are in their place. */
type Outcome = Uint8Array | number | undefined;

export class FuseServer {
  readonly #share: Share;
  readonly #nodes: Nodes;

  constructor(share: Share) {
    this.#share = share;
    this.#nodes = new Nodes(share);
  }

  /** The driver is gone. */
  reset(): void {
    this.#nodes.clear();
  }

  /** Performs a request; throws what it is refused with. */
  async perform(request: FuseRequest): Promise<Outcome> {
    const handler = this.#handlers.get(request.opcode);
    // The kernel does without what is not there: access checks of ours, extended attributes, locks beyond its own.
    if (handler === undefined) throw new Refusal(Errno.ENOSYS);
    return await handler(request);
  }

  readonly #handlers = new Map<number, (request: FuseRequest) => Outcome | Promise<Outcome>>([
    [Opcode.INIT, (request) => this.#init(request)],
    [Opcode.DESTROY, () => this.#nodes.clear()],
    [Opcode.LOOKUP, (request) => this.#lookUp(request.node, request.names(0, 1)[0]!)],
    [Opcode.FORGET, (request) => this.#nodes.forget(request.node, wide(request.fixed(Fixed.FORGET), 0))],
    [Opcode.BATCH_FORGET, (request) => this.#forgetMany(request)],
    [Opcode.GETATTR, (request) => this.#attributes(request.node)],
    [Opcode.SETATTR, (request) => this.#setAttributes(request)],
    [Opcode.READLINK, (request) => Buffer.from(this.#share.readLink(this.#nodes.pinned(request.node)), "latin1")],
    [Opcode.SYMLINK, (request) => this.#makeLink(request)],
    [Opcode.MKNOD, (request) => this.#makeNode(request)],
    [Opcode.MKDIR, (request) => this.#makeFolder(request)],
    [Opcode.UNLINK, (request) => this.#remove(request, false)],
    [Opcode.RMDIR, (request) => this.#remove(request, true)],
    [Opcode.RENAME, (request) => this.#rename(request, Fixed.RENAME)],
    [Opcode.RENAME2, (request) => this.#rename(request, Fixed.RENAME2)],
    [Opcode.LINK, (request) => this.#link(request)],
    [Opcode.OPEN, (request) => this.#open(request)],
    [Opcode.OPENDIR, (request) => this.#open(request)],
    [Opcode.CREATE, (request) => this.#create(request)],
    [Opcode.READ, (request) => this.#read(request)],
    [Opcode.WRITE, (request) => this.#write(request)],
    [Opcode.READDIR, (request) => this.#list(request)],
    [Opcode.RELEASE, (request) => this.#nodes.release(wide(request.fixed(Fixed.HANDLE), 0))],
    [Opcode.RELEASEDIR, (request) => this.#nodes.release(wide(request.fixed(Fixed.HANDLE), 0))],
    [Opcode.FSYNC, (request) => this.#sync(request)],
    [Opcode.FSYNCDIR, (request) => this.#sync(request)],
    [Opcode.STATFS, (request) => space(this.#share, this.#nodes.pinned(request.node))],
  ]);

  /** Both sides begin anew. A kernel of another major version asks again, or gives up. */
  #init(request: FuseRequest): Uint8Array {
    const wanted = request.fixed(Fixed.INIT);
    this.#nodes.clear();
    const { ASYNC_READ, ATOMIC_O_TRUNC, BIG_WRITES, PARALLEL_DIROPS, MAX_PAGES } = InitFlag;
    const known = ASYNC_READ | ATOMIC_O_TRUNC | BIG_WRITES | PARALLEL_DIROPS | MAX_PAGES;
    const answer = new DataView(new ArrayBuffer(Answer.INIT));
    answer.setUint32(0, VERSION.MAJOR, true);
    answer.setUint32(4, VERSION.MINOR, true);
    answer.setUint32(8, wanted.getUint32(8, true), true);
    answer.setUint32(12, wanted.getUint32(12, true) & known, true);
    // The most requests in the background, and how many are many.
    answer.setUint16(16, 64, true);
    answer.setUint16(18, 48, true);
    answer.setUint32(20, MOST_BYTES, true);
    answer.setUint32(24, 1, true);
    answer.setUint16(28, MOST_BYTES / 4096, true);
    return new Uint8Array(answer.buffer);
  }

  #lookUp(folder: number, name: string): Uint8Array {
    const { number, stat } = this.#nodes.add(this.#share.pin(this.#nodes.pinned(folder), name));
    return entry(this.#share, number, stat);
  }

  #forgetMany(request: FuseRequest): undefined {
    const count = request.fixed(Fixed.BATCH_FORGET).getUint32(0, true);
    // More than the request holds is refused here.
    const all = request.fixed(Math.min(Fixed.BATCH_FORGET + count * Fixed.FORGET_ONE, 2 ** 20));
    for (let at: number = Fixed.BATCH_FORGET; at < all.byteLength; at += Fixed.FORGET_ONE) {
      this.#nodes.forget(wide(all, at), wide(all, at + 8));
    }
  }

  #attributes(node: number): Uint8Array {
    return attributes(this.#share, this.#share.stat(this.#nodes.pinned(node)));
  }

  #setAttributes(request: FuseRequest): Uint8Array {
    const wanted = request.fixed(SetAttr.BYTES);
    const valid = wanted.getUint32(SetAttr.VALID, true);
    const has = (what: number) => (valid & what) !== 0;
    const pinned = this.#nodes.pinned(request.node);
    this.#share.mayWrite();
    const { uid, gid, atimeNs, mtimeNs } = this.#share.stat(pinned);
    if (has(Valid.UID | Valid.GID)) {
      const owner = has(Valid.UID) ? wanted.getUint32(SetAttr.UID, true) : Number(uid);
      const group = has(Valid.GID) ? wanted.getUint32(SetAttr.GID, true) : Number(gid);
      this.#share.setOwner(pinned, owner, group);
    }
    if (has(Valid.MODE)) this.#share.setMode(pinned, wanted.getUint32(SetAttr.MODE, true));
    if (has(Valid.SIZE)) this.#share.setSize(pinned, wide(wanted, SetAttr.SIZE));
    if (has(Valid.ATIME | Valid.MTIME)) {
      const time = (what: number, now: number, at: number, ns: number, kept: bigint) => {
        if (!has(what)) return Number(kept) / 1e9;
        return has(now) ? Date.now() / 1000 : wide(wanted, at) + wanted.getUint32(ns, true) / 1e9;
      };
      this.#share.setTimes(pinned, {
        accessedSeconds: time(Valid.ATIME, Valid.ATIME_NOW, SetAttr.ATIME, SetAttr.ATIME_NS, atimeNs),
        modifiedSeconds: time(Valid.MTIME, Valid.MTIME_NOW, SetAttr.MTIME, SetAttr.MTIME_NS, mtimeNs),
      });
    }
    return this.#attributes(request.node);
  }

  #makeLink(request: FuseRequest): Uint8Array {
    const [name, target] = request.names(0, 2) as [string, string];
    this.#share.makeLink(this.#nodes.pinned(request.node), name, target);
    return this.#lookUp(request.node, name);
  }

  /** Files only: devices would be the host's, and pipes and sockets lead nowhere. */
  #makeNode(request: FuseRequest): Uint8Array {
    const mode = request.fixed(Fixed.MKNOD).getUint32(0, true);
    const [name] = request.names(Fixed.MKNOD, 1) as [string];
    if ((mode & constants.S_IFMT) !== constants.S_IFREG) throw new Refusal(Errno.EPERM);
    close(this.#share.create(this.#nodes.pinned(request.node), name, constants.O_RDONLY | constants.O_EXCL, mode));
    return this.#made(request, name);
  }

  #makeFolder(request: FuseRequest): Uint8Array {
    const mode = request.fixed(Fixed.MKDIR).getUint32(0, true);
    const [name] = request.names(Fixed.MKDIR, 1) as [string];
    this.#share.makeFolder(this.#nodes.pinned(request.node), name, mode);
    return this.#made(request, name);
  }

  /** What was made is its maker's, where this process may give it away. */
  #made(request: FuseRequest, name: string): Uint8Array {
    const pinned = this.#share.pin(this.#nodes.pinned(request.node), name);
    const { number } = this.#nodes.add(pinned);
    const node = this.#nodes.pinned(number);
    this.#share.setOwner(node, request.uid, request.gid);
    return entry(this.#share, number, this.#share.stat(node));
  }

  #remove(request: FuseRequest, isFolder: boolean): undefined {
    const [name] = request.names(0, 1) as [string];
    this.#share.remove(this.#nodes.pinned(request.node), name, isFolder);
  }

  /** Exchanges and whiteouts, which RENAME2 can ask for, are left out. */
  #rename(request: FuseRequest, fixed: number): undefined {
    const fields = request.fixed(fixed);
    if (fixed === Fixed.RENAME2 && fields.getUint32(8, true) !== 0) throw new Refusal(Errno.EINVAL);
    const [from, to] = request.names(fixed, 2) as [string, string];
    const folder = this.#nodes.pinned(wide(fields, 0));
    this.#share.rename(this.#nodes.pinned(request.node), from, folder, to);
  }

  #link(request: FuseRequest): Uint8Array {
    const file = this.#nodes.pinned(wide(request.fixed(Fixed.LINK), 0));
    const [name] = request.names(Fixed.LINK, 1) as [string];
    this.#share.link(file, this.#nodes.pinned(request.node), name);
    return this.#lookUp(request.node, name);
  }

  #open(request: FuseRequest): Uint8Array {
    const flags = request.fixed(Fixed.OPEN).getUint32(0, true);
    return opened(this.#nodes.open(this.#share.open(this.#nodes.pinned(request.node), flags), flags));
  }

  #create(request: FuseRequest): Uint8Array {
    const fields = request.fixed(Fixed.CREATE);
    const [name] = request.names(Fixed.CREATE, 1) as [string];
    const flags = fields.getUint32(0, true);
    const fd = this.#share.create(this.#nodes.pinned(request.node), name, flags, fields.getUint32(4, true));
    const handle = this.#nodes.open(fd, flags);
    try {
      return Buffer.concat([this.#made(request, name), opened(handle)]);
    } catch (error) {
      this.#nodes.release(handle);
      throw error;
    }
  }

  async #read(request: FuseRequest): Promise<number> {
    const fields = request.fixed(Fixed.READ);
    const file = this.#nodes.opened(wide(fields, 0));
    const count = Math.min(fields.getUint32(16, true), request.roomBytes, MOST_BYTES);
    return await file.use(() => file.transfers.read(wide(fields, 8), request.room(count)));
  }

  async #write(request: FuseRequest): Promise<Uint8Array> {
    const fields = request.fixed(Fixed.WRITE);
    this.#share.mayWrite();
    const file = this.#nodes.opened(wide(fields, 0));
    const count = fields.getUint32(16, true);
    const data = request.data(Fixed.WRITE, count);
    await file.use(() => file.transfers.write(wide(fields, 8), data));
    const answer = new DataView(new ArrayBuffer(Answer.WRITE));
    answer.setUint32(0, count, true);
    return new Uint8Array(answer.buffer);
  }

  #list(request: FuseRequest): Uint8Array {
    const fields = request.fixed(Fixed.READ);
    const file = this.#nodes.opened(wide(fields, 0));
    const { dev } = this.#share.stat(file.opened);
    const list = new EntryList(Math.min(fields.getUint32(16, true), request.roomBytes, MOST_BYTES));
    for (const { inode, offset, type, name } of folderEntries(file.opened, fields.getBigInt64(8, true))) {
      // The folder above the share's is not the guest's to know.
      const known = request.node === ROOT && name.length === 2 && name[0] === 0x2e && name[1] === 0x2e ? 1n : inode;
      if (!list.add(this.#share.path(dev, known), offset, type, name)) break;
    }
    return list.bytes;
  }

  async #sync(request: FuseRequest): Promise<undefined> {
    const file = this.#nodes.opened(wide(request.fixed(Fixed.HANDLE), 0));
    await file.use(() => sync(file.opened));
  }
}

/** A u64 as a number: inexact above 2^53, where no file, node or handle is. */
function wide(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
}
