/** `-o name=value,…` of new images, with qemu-img's names. */

import type { CreateImageOptions, Image, OpenImageOptions, Preallocation, SnapshotKey } from "@lodge/storage";
import { CACHE_MODES, type CacheMode, fileCaching, openImage, StorageError } from "@lodge/storage/copying";
import { type Command, Option } from "commander";
import { parseDiskSize, parseSize, wholeNumber } from "./size.ts";

export const PREALLOCATIONS = ["off", "metadata", "falloc", "full"] as const satisfies Preallocation[];

export const RATE_LIMIT_HELP = "bytes of data a second at most; 0: as many as there are (default: 0)";

/** What `-o` says, added up from left to right. */
export function parseImageOptions(
  texts: readonly string[],
): Partial<CreateImageOptions> & { backingName?: string; backingFormat?: string } {
  const options: ReturnType<typeof parseImageOptions> = {};
  for (const text of texts.flatMap((list) => list.split(",")).filter((part) => part !== "")) {
    const cut = text.indexOf("=");
    const [name, value] = cut < 0 ? [text, "on"] : [text.slice(0, cut), text.slice(cut + 1)];
    const refuse = (possible: string) => new StorageError("STORAGE_OPEN", `-o ${text}: ${name} is ${possible}`);
    const onOff = () => {
      if (value !== "on" && value !== "off") throw refuse("on or off");
      return value === "on";
    };
    if (name === "size") options.sizeBytes = parseDiskSize(value);
    else if (name === "cluster_size") options.clusterSize = parseSize(value);
    else if (name === "refcount_bits") options.refcountBits = wholeNumber(1, 64)(value);
    else if (name === "lazy_refcounts") options.lazyRefcounts = onOff();
    else if (name === "extended_l2") options.extendedL2 = onOff();
    else if (name === "backing_file") options.backingName = value;
    else if (name === "backing_fmt") options.backingFormat = value;
    else if (name === "compression_type") {
      if (value !== "zlib" && value !== "zstd") throw refuse("zlib or zstd");
      options.compression = value;
    } else if (name === "compat") {
      if (!["0.10", "v2", "1.1", "v3"].includes(value)) throw refuse("0.10 (v2) or 1.1 (v3)");
      options.version = value === "0.10" || value === "v2" ? 2 : 3;
    } else if (name === "preallocation") {
      const known = PREALLOCATIONS.find((one) => one === value);
      if (known === undefined) throw refuse(`one of ${PREALLOCATIONS.join(", ")}`);
      options.preallocation = known;
    } else {
      throw new StorageError(
        "STORAGE_OPEN",
        `-o ${name}: there are size, cluster_size, refcount_bits, lazy_refcounts, extended_l2, compression_type, compat, preallocation, backing_file, backing_fmt`,
      );
    }
  }
  return options;
}

/** The backing image that `option` names, if it does. Its format has to be said: what the image itself says a guest could have written. */
export function backingOf(
  option: string,
  name: string | undefined,
  format: string | undefined,
): { name: string; format: string } | undefined {
  if (name === undefined) return undefined;
  if (format !== undefined) return { name, format };
  throw new StorageError("STORAGE_OPEN", `${option} ${name}: name the backing file's format, with -F raw or -F qcow2`);
}

/** qemu-img's two ways to name a snapshot. */
function parseSnapshotKey(text: string): SnapshotKey {
  if (!text.startsWith("snapshot.")) return text;
  const key: { id?: string; name?: string } = {};
  // A comma in a value is written twice.
  for (const part of text.match(/(?:[^,]|,,)+/g) ?? []) {
    const [, what, value] = /^snapshot\.(id|name)=(.+)$/s.exec(part) ?? [];
    if (value === undefined) {
      throw new StorageError("STORAGE_OPEN", `-l ${text}: ${part} is neither snapshot.id=ID nor snapshot.name=NAME`);
    }
    key[what as "id" | "name"] = value.replaceAll(",,", ",");
  }
  return key;
}

/** The flags that say what an image's name means. */
export interface NamingFlags {
  format?: string;
  imageOpts?: true;
  object?: string[];
}

/** The image that a command's argument names. */
export interface Named {
  path: string;
  options: Pick<OpenImageOptions, "format" | "readOnly" | "lock" | "direct" | "flushes" | "part">;
}

export function namingOptions(command: Command): Command {
  return command
    .option("--image-opts", "images are named by QEMU's options for them, such as driver=qcow2,file.filename=PATH")
    .option(
      "--object <definition>",
      "tls-creds-x509 or tls-creds-psk,id=NAME,dir=FOLDER, for tls-creds=NAME of --image-opts",
      collect,
    );
}

/** What `text` names by these flags. */
export async function named(text: string, { format, imageOpts, object = [] }: NamingFlags): Promise<Named> {
  const plain = { path: text, options: format === undefined ? {} : { format } };
  if (!imageOpts && object.length === 0) return plain;
  const { credentialsOf, describedImage } = await import("./image-opts.ts");
  const objects = credentialsOf(object);
  if (!imageOpts) return plain;
  if (format !== undefined) throw new StorageError("STORAGE_OPEN", "--image-opts says the format: driver=, not -f");
  return describedImage(text, objects);
}

/** The same where an image is changed as a whole, and opened as other flags say. */
export async function namedFile(text: string, flags: NamingFlags): Promise<{ path: string; format?: string }> {
  const { path, options } = await named(text, flags);
  const { format, ...others } = options;
  if (Object.keys(others).length > 0) {
    throw new StorageError("STORAGE_OPEN", `--image-opts ${text}: here it takes driver and file, and nothing else`);
  }
  return { path, ...(format !== undefined && { format }) };
}

export async function openNamed(text: string, flags: ReadFlags & NamingFlags): Promise<Image> {
  const { path, options } = await named(text, flags);
  return await openImage(path, { ...toRead(flags), ...options });
}

interface ReadFlags {
  forceShare?: true;
  snapshot?: string;
  sourceCache?: CacheMode;
}

/** How an image is opened that a command only reads, by its flags. */
function toRead({ forceShare, snapshot, sourceCache = "writeback" }: ReadFlags) {
  return {
    ...fileCaching(sourceCache),
    readOnly: true,
    lock: !forceShare,
    ...(snapshot !== undefined && { snapshot: parseSnapshotKey(snapshot) }),
  };
}

/** qemu-img's -t and -T: a machine's disk has the same modes. */
export function cacheOption(
  flags: "-t, --cache <mode>" | "-T, --source-cache <mode>" | "-t, --target-cache <mode>",
  of: string,
): Option {
  return new Option(flags, `how much of ${of} goes through the host's page cache, and when it lasts`).choices(
    CACHE_MODES,
  );
}

/** For an option that may be given several times. */
export function collect(text: string, before: string[] = []): string[] {
  return [...before, text];
}
