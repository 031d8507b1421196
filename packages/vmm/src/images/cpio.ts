/** An initramfs archive in the "newc" form of the kernel's Documentation/driver-api/early-userspace/buffer-format.rst. */

export type Entry =
  | { kind: "directory"; path: string }
  | { kind: "file"; path: string; mode: number; data: Buffer }
  | { kind: "link"; path: string; to: string }
  | { kind: "characters"; path: string; major: number; minor: number };

const typeBits = { directory: 0o040000, file: 0o100000, link: 0o120000, characters: 0o020000 };

function modeOf(entry: Entry): number {
  switch (entry.kind) {
    case "directory":
      return typeBits.directory | 0o755;
    case "file":
      return typeBits.file | entry.mode;
    case "link":
      return typeBits.link | 0o777;
    case "characters":
      return typeBits.characters | 0o600;
  }
}

function dataOf(entry: Entry): Buffer {
  if (entry.kind === "file") return entry.data;
  return Buffer.from(entry.kind === "link" ? entry.to : "");
}

const padding = (length: number) => Buffer.alloc((4 - (length % 4)) % 4);

function record(path: string, inode: number, mode: number, data: Buffer, major = 0, minor = 0): Buffer[] {
  const name = Buffer.from(`${path}\0`);
  const links = mode === 0 ? 0 : 1;
  // inode, mode, uid, gid, links, mtime, size, device (2), special device (2), name size, check
  const fields = [inode, mode, 0, 0, links, 0, data.length, 0, 0, major, minor, name.length, 0];
  const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`);
  return [header, name, padding(header.length + name.length), data, padding(data.length)];
}

export function cpio(entries: readonly Entry[]): Buffer {
  const parts = entries.flatMap((entry, index) =>
    entry.kind === "characters"
      ? record(entry.path, index + 1, modeOf(entry), dataOf(entry), entry.major, entry.minor)
      : record(entry.path, index + 1, modeOf(entry), dataOf(entry)),
  );
  return Buffer.concat([...parts, ...record("TRAILER!!!", 0, 0, Buffer.alloc(0))]);
}
