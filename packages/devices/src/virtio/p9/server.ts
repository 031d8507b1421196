/** The 9P2000.L server: requests on a shared folder. */

import { constants, fsync } from "node:fs";
import { promisify } from "node:util";
import { close } from "@lodge/linux";
import { part } from "../queue/index.ts";
import { folderEntries } from "../shared-folder/entries.ts";
import { Errno, Refusal } from "../shared-folder/refusal.ts";
import type { Share } from "../shared-folder/share.ts";
import { Fid, FidTable } from "./fids.ts";
import {
  type FieldReader,
  FieldWriter,
  HEADER_LENGTH,
  MAX_WALK,
  Message,
  NO_FID,
  QID_LENGTH,
  qidOf,
  qidType,
  READ_REPLY_LENGTH,
  VERSION,
} from "./protocol.ts";

/** What one message may hold; Linux asks for up to 500 KiB. */
const MAX_MESSAGE = 512 * 1024;
const MIN_MESSAGE = 4096;
/** Tunlinkat's flag for folders. */
const AT_REMOVEDIR = 0x200;
/** V9FS_MAGIC, what statfs says on such a mount. */
const V9FS_MAGIC = 0x01021997;
/** P9_GETATTR_BASIC: everything that stat(2) has. */
const GETATTR_BASIC = 0x7ffn;
/** Tsetattr's valid bits. */
const Valid = {
  MODE: 1,
  UID: 2,
  GID: 4,
  SIZE: 8,
  ATIME: 0x10,
  MTIME: 0x20,
  ATIME_SET: 0x80,
  MTIME_SET: 0x100,
} as const;
/** F_UNLCK, and P9_LOCK_SUCCESS. */
const UNLOCKED = 2;
const LOCKED = 0;

const sync = promisify(fsync);

/** A file in hand as it is saved: what is found again by its names. */
export interface SavedFid {
  fid: number;
  names: string[];
  open: boolean;
  flags: number;
}

/** What a request is about, beyond its fields: the memory of its data. */
export interface Transfer {
  /** Data of a write, behind its fields. */
  readonly data: readonly Uint8Array[];
  /** Where the answer's data goes, behind its fields. */
  readonly room: readonly Uint8Array[];
  readonly roomBytes: number;
}

type Handler = (fields: FieldReader, reply: FieldWriter, transfer: Transfer) => void | Promise<void>;

export class P9Server {
  /** What both sides have agreed on as the longest message. */
  messageBytes = MAX_MESSAGE;
  readonly #share: Share;
  readonly #fids = new FidTable();

  readonly #handlers = new Map<number, Handler>([
    [Message.VERSION, this.#version.bind(this)],
    [Message.ATTACH, this.#attach.bind(this)],
    [Message.WALK, this.#walk.bind(this)],
    [Message.CLUNK, (fields) => this.#fids.clunk(fields.u32())],
    [Message.GETATTR, this.#getattr.bind(this)],
    [Message.SETATTR, this.#setattr.bind(this)],
    [Message.LOPEN, this.#open.bind(this)],
    [Message.LCREATE, this.#create.bind(this)],
    [Message.WRITE, this.#write.bind(this)],
    [Message.FSYNC, this.#fsync.bind(this)],
    [Message.READDIR, this.#readdir.bind(this)],
    [Message.READLINK, this.#readlink.bind(this)],
    [Message.STATFS, this.#statfs.bind(this)],
    [Message.MKDIR, this.#mkdir.bind(this)],
    [Message.SYMLINK, this.#symlink.bind(this)],
    [Message.MKNOD, this.#mknod.bind(this)],
    [Message.LINK, this.#link.bind(this)],
    [Message.RENAME, this.#rename.bind(this)],
    [Message.RENAMEAT, this.#renameat.bind(this)],
    [Message.UNLINKAT, this.#unlinkat.bind(this)],
    [Message.REMOVE, this.#remove.bind(this)],
    [Message.LOCK, this.#lock.bind(this)],
    [Message.GETLOCK, this.#getlock.bind(this)],
  ]);

  constructor(share: Share) {
    this.#share = share;
  }

  /** Performs a request. The answer's fields are written to `reply`; returns how many bytes of data follow them. */
  async perform(type: number, fields: FieldReader, reply: FieldWriter, transfer: Transfer): Promise<number> {
    if (type === Message.READ) return this.#read(fields, reply, transfer);
    const handler = this.#handlers.get(type);
    // Tauth, and extended attributes.
    if (handler === undefined) throw new Refusal(Errno.EOPNOTSUPP);
    await handler(fields, reply, transfer);
    return 0;
  }

  /** The driver is gone. */
  reset(): void {
    this.#fids.clear();
    this.messageBytes = MAX_MESSAGE;
  }

  save(): SavedFid[] {
    return [...this.#fids.entries()].map(([fid, { names, isOpen, flags }]) => ({
      fid,
      names: [...names],
      open: isOpen,
      flags,
    }));
  }

  /** Takes the files in hand again. Those that are no longer there are left out: the guest is told EBADF. */
  restore(saved: readonly SavedFid[]): void {
    for (const { fid: number, names, open, flags } of saved) {
      try {
        const fid = new Fid(names, this.#pinNames(names));
        this.#fids.set(number, fid);
        // What creating or cutting a file did is done.
        if (open) fid.setOpened(this.#share.open(fid.pinned, flags & ~constants.O_TRUNC), flags);
      } catch {}
    }
  }

  /** version(5): both sides begin anew. */
  #version(fields: FieldReader, reply: FieldWriter): void {
    const wanted = fields.u32();
    const version = fields.string();
    if (wanted < MIN_MESSAGE) throw new Refusal(Errno.EINVAL);
    this.reset();
    this.messageBytes = Math.min(wanted, MAX_MESSAGE);
    reply.u32(this.messageBytes).string(version === VERSION ? VERSION : "unknown");
  }

  #attach(fields: FieldReader, reply: FieldWriter): void {
    const number = fields.u32();
    if (fields.u32() !== NO_FID) throw new Refusal(Errno.EOPNOTSUPP);
    this.#fids.mustBeFree(number);
    const fid = new Fid([], this.#share.pinRoot());
    this.#fids.set(number, fid);
    reply.qid(qidOf(this.#share, this.#share.stat(fid.pinned)));
  }

  /** walk(5): all names lead there, or the new fid does not come to be; the first must lead somewhere. */
  #walk(fields: FieldReader, reply: FieldWriter): void {
    const from = this.#fids.get(fields.u32());
    const number = fields.u32();
    const count = fields.u16();
    if (count > MAX_WALK) throw new Refusal(Errno.EINVAL);
    const same = this.#isSame(number, from);
    if (!same) this.#fids.mustBeFree(number);
    const wanted = Array.from({ length: count }, () => fields.string());

    let names = from.names;
    let pinned = this.#share.pinAgain(from.pinned);
    const qids = [];
    try {
      for (const name of wanted) {
        const next = name === ".." ? this.#pinNames(names.slice(0, -1)) : this.#share.pin(pinned, name);
        names = name === ".." ? names.slice(0, -1) : [...names, name];
        close(pinned);
        pinned = next;
        qids.push(qidOf(this.#share, this.#share.stat(pinned)));
      }
    } catch (cause) {
      if (qids.length === 0) {
        close(pinned);
        throw cause;
      }
    }
    if (qids.length === count) this.#fids.set(number, new Fid(names, pinned));
    else close(pinned);
    reply.u16(qids.length);
    for (const qid of qids) reply.qid(qid);
  }

  #isSame(number: number, fid: Fid): boolean {
    try {
      return this.#fids.get(number) === fid;
    } catch {
      return false;
    }
  }

  /** From the root, name by name: how `..` stays inside. */
  #pinNames(names: readonly string[]): number {
    let pinned = this.#share.pinRoot();
    for (const name of names) {
      try {
        const next = this.#share.pin(pinned, name);
        close(pinned);
        pinned = next;
      } catch (cause) {
        close(pinned);
        throw cause;
      }
    }
    return pinned;
  }

  #getattr(fields: FieldReader, reply: FieldWriter): void {
    const stat = this.#share.stat(this.#fids.get(fields.u32()).pinned);
    reply.u64(GETATTR_BASIC).qid(qidOf(this.#share, stat));
    reply.u32(Number(stat.mode)).u32(Number(stat.uid)).u32(Number(stat.gid));
    for (const value of [stat.nlink, stat.rdev, stat.size, stat.blksize, stat.blocks]) reply.u64(value);
    for (const time of [stat.atimeNs, stat.mtimeNs, stat.ctimeNs]) {
      reply.u64(BigInt.asUintN(64, time / 1_000_000_000n)).u64(BigInt.asUintN(64, time % 1_000_000_000n));
    }
    // Birth time, generation and data version, which are not valid.
    for (let field = 0; field < 4; field++) reply.u64(0);
  }

  #setattr(fields: FieldReader): void {
    const { pinned } = this.#fids.get(fields.u32());
    const valid = fields.u32();
    const [mode, uid, gid] = [fields.u32(), fields.u32(), fields.u32()];
    const size = fields.u64();
    const accessed = fields.u64() + fields.u64() / 1e9;
    const modified = fields.u64() + fields.u64() / 1e9;
    this.#share.mayWrite();
    if (valid & (Valid.UID | Valid.GID)) {
      const keep = this.#share.stat(pinned);
      this.#share.setOwner(
        pinned,
        valid & Valid.UID ? uid : Number(keep.uid),
        valid & Valid.GID ? gid : Number(keep.gid),
      );
    }
    if (valid & Valid.MODE) this.#share.setMode(pinned, mode);
    if (valid & Valid.SIZE) this.#share.setSize(pinned, size);
    if (valid & (Valid.ATIME | Valid.MTIME)) {
      const keep = this.#share.stat(pinned);
      const now = Date.now() / 1000;
      const time = (which: number, given: number, wanted: number, kept: bigint) =>
        valid & which ? (valid & given ? wanted : now) : Number(kept) / 1e9;
      this.#share.setTimes(pinned, {
        accessedSeconds: time(Valid.ATIME, Valid.ATIME_SET, accessed, keep.atimeNs),
        modifiedSeconds: time(Valid.MTIME, Valid.MTIME_SET, modified, keep.mtimeNs),
      });
    }
  }

  #open(fields: FieldReader, reply: FieldWriter): void {
    const fid = this.#fids.get(fields.u32());
    const flags = fields.u32();
    if (fid.isOpen) throw new Refusal(Errno.EBADF);
    fid.setOpened(this.#share.open(fid.pinned, flags), flags);
    reply.qid(qidOf(this.#share, this.#share.stat(fid.pinned))).u32(0);
  }

  /** The folder's fid becomes the file's. */
  #create(fields: FieldReader, reply: FieldWriter): void {
    const number = fields.u32();
    const folder = this.#fids.get(number);
    const name = fields.string();
    const [flags, mode] = [fields.u32(), fields.u32()];
    if (folder.isOpen) throw new Refusal(Errno.EBADF);
    const opened = this.#share.create(folder.pinned, name, flags, mode);
    let fid: Fid;
    try {
      fid = new Fid([...folder.names, name], this.#share.pinAgain(opened));
    } catch (cause) {
      close(opened);
      throw cause;
    }
    fid.setOpened(opened, flags & ~constants.O_EXCL);
    this.#fids.set(number, fid);
    reply.qid(qidOf(this.#share, this.#share.stat(fid.pinned))).u32(0);
  }

  async #read(fields: FieldReader, reply: FieldWriter, { room, roomBytes }: Transfer): Promise<number> {
    const fid = this.#fids.get(fields.u32());
    const offset = fields.u64();
    const count = Math.min(fields.u32(), roomBytes, this.messageBytes - READ_REPLY_LENGTH);
    const done = await fid.use(() => fid.transfers.read(offset, part(room, 0, count)));
    reply.u32(done);
    return done;
  }

  async #write(fields: FieldReader, reply: FieldWriter, { data }: Transfer): Promise<void> {
    this.#share.mayWrite();
    const fid = this.#fids.get(fields.u32());
    const offset = fields.u64();
    const pieces = part(data, 0, fields.u32());
    await fid.use(() => fid.transfers.write(offset, pieces));
    reply.u32(pieces.reduce((sum, piece) => sum + piece.length, 0));
  }

  async #fsync(fields: FieldReader): Promise<void> {
    const fid = this.#fids.get(fields.u32());
    await fid.use(() => sync(fid.opened));
  }

  #readlink(fields: FieldReader, reply: FieldWriter): void {
    reply.string(this.#share.readLink(this.#fids.get(fields.u32()).pinned));
  }

  #readdir(fields: FieldReader, reply: FieldWriter, { roomBytes }: Transfer): void {
    const fid = this.#fids.get(fields.u32());
    const offset = fields.i64();
    const most = Math.min(fields.u32(), roomBytes, this.messageBytes - READ_REPLY_LENGTH);
    const { dev, mode } = this.#share.stat(fid.pinned);
    if (qidType(Number(mode)) !== 0x80) throw new Refusal(Errno.ENOTDIR);
    const list = new FieldWriter();
    for (const { inode, offset: next, type, name } of folderEntries(fid.opened, offset)) {
      if (list.length - HEADER_LENGTH + QID_LENGTH + 11 + name.length > most) break;
      // DT_* are the S_IF* shifted down.
      list.qid({ type: qidType(type << 12), version: 0, path: this.#share.path(dev, inode) });
      list.u64(next).u8(type).u16(name.length).bytes(name);
    }
    const bytes = list.finish(0, 0).subarray(HEADER_LENGTH);
    reply.u32(bytes.length).bytes(bytes);
  }

  #statfs(fields: FieldReader, reply: FieldWriter): void {
    const space = this.#share.space(this.#fids.get(fields.u32()).pinned);
    reply.u32(V9FS_MAGIC).u32(Number(space.bsize));
    for (const value of [space.blocks, space.bfree, space.bavail, space.files, space.ffree, 0n]) reply.u64(value);
    reply.u32(255);
  }

  #mkdir(fields: FieldReader, reply: FieldWriter): void {
    const folder = this.#fids.get(fields.u32());
    const name = fields.string();
    this.#share.makeFolder(folder.pinned, name, fields.u32());
    this.#replyQid(folder, name, reply);
  }

  #symlink(fields: FieldReader, reply: FieldWriter): void {
    const folder = this.#fids.get(fields.u32());
    const [name, target] = [fields.string(), fields.string()];
    this.#share.makeLink(folder.pinned, name, target);
    this.#replyQid(folder, name, reply);
  }

  /** Files only: devices would be the host's, and pipes and sockets lead nowhere. */
  #mknod(fields: FieldReader, reply: FieldWriter): void {
    const folder = this.#fids.get(fields.u32());
    const name = fields.string();
    const mode = fields.u32();
    if ((mode & constants.S_IFMT) !== constants.S_IFREG) throw new Refusal(Errno.EPERM);
    close(this.#share.create(folder.pinned, name, constants.O_RDONLY | constants.O_EXCL, mode));
    this.#replyQid(folder, name, reply);
  }

  #replyQid(folder: Fid, name: string, reply: FieldWriter): void {
    const pinned = this.#share.pin(folder.pinned, name);
    try {
      reply.qid(qidOf(this.#share, this.#share.stat(pinned)));
    } finally {
      close(pinned);
    }
  }

  #link(fields: FieldReader): void {
    const folder = this.#fids.get(fields.u32());
    const file = this.#fids.get(fields.u32());
    this.#share.link(file.pinned, folder.pinned, fields.string());
  }

  #rename(fields: FieldReader): void {
    const fid = this.#fids.get(fields.u32());
    const folder = this.#fids.get(fields.u32());
    const name = fields.string();
    this.#inFolderOf(fid, (parent, old) => {
      this.#share.rename(parent, old, folder.pinned, name);
      this.#fids.moved(fid.names, [...folder.names, name]);
    });
  }

  #renameat(fields: FieldReader): void {
    const oldFolder = this.#fids.get(fields.u32());
    const oldName = fields.string();
    const newFolder = this.#fids.get(fields.u32());
    const newName = fields.string();
    this.#share.rename(oldFolder.pinned, oldName, newFolder.pinned, newName);
    this.#fids.moved([...oldFolder.names, oldName], [...newFolder.names, newName]);
  }

  #unlinkat(fields: FieldReader): void {
    const folder = this.#fids.get(fields.u32());
    const name = fields.string();
    this.#share.remove(folder.pinned, name, (fields.u32() & AT_REMOVEDIR) !== 0);
  }

  /** remove(5): the fid is clunked even if the file stays. */
  #remove(fields: FieldReader): void {
    const number = fields.u32();
    const fid = this.#fids.get(number);
    try {
      const isFolder = this.#share.stat(fid.pinned).isDirectory();
      this.#inFolderOf(fid, (parent, name) => this.#share.remove(parent, name, isFolder));
    } finally {
      this.#fids.clunk(number);
    }
  }

  /** Calls with the folder that a file is in, and its name there. The root is in none. */
  #inFolderOf(fid: Fid, action: (parent: number, name: string) => void): void {
    const name = fid.names.at(-1);
    if (name === undefined) throw new Refusal(Errno.EINVAL);
    const parent = this.#pinNames(fid.names.slice(0, -1));
    try {
      action(parent, name);
    } finally {
      close(parent);
    }
  }

  /** Locks are between this guest's processes, and its kernel has seen to them; there is no other guest to keep out. */
  #lock(fields: FieldReader, reply: FieldWriter): void {
    this.#fids.get(fields.u32());
    reply.u8(LOCKED);
  }

  #getlock(fields: FieldReader, reply: FieldWriter): void {
    this.#fids.get(fields.u32());
    fields.u8();
    const [start, length] = [fields.u64(), fields.u64()];
    const process = fields.u32();
    reply
      .u8(UNLOCKED)
      .u64(BigInt.asUintN(64, BigInt(start)))
      .u64(BigInt.asUintN(64, BigInt(length)));
    reply.u32(process).string(fields.string());
  }
}
