/** An appliance's files: those of an OVA, or those beside an OVF. */

import { createHash } from "node:crypto";
import { basename, dirname, join } from "node:path";
import { StorageError } from "../errors.ts";
import { HostFile } from "../file/host-file.ts";
import type { Store } from "../image.ts";
import { readTar, Slice } from "./tar.ts";

/** Descriptions and manifests are texts of some kilobytes. */
const MAX_TEXT_BYTES = 4 << 20;
const STEP_BYTES = 1 << 20;
/** SHA256(disk1.vmdk)= 9f86d0…, as OVF's manifests have it. */
const DIGEST = /^(SHA1|SHA256|SHA512)\s?\((.{1,1000})\)\s?=\s?([0-9a-f]+)\s*$/i;

export class Archive implements AsyncDisposable {
  /** The description. */
  readonly ovf: string;
  readonly #store: Store;
  readonly #open: (name: string) => Promise<Store>;
  readonly #digests: ReadonlyMap<string, { algorithm: string; digest: string }>;

  private constructor(store: Store, ovf: string, open: (name: string) => Promise<Store>, manifest: string) {
    this.#store = store;
    this.ovf = ovf;
    this.#open = open;
    const digests = new Map<string, { algorithm: string; digest: string }>();
    for (const line of manifest.split("\n")) {
      const [, algorithm, name, digest] = DIGEST.exec(line) ?? [];
      if (algorithm && name && digest)
        digests.set(name, { algorithm: algorithm.toLowerCase(), digest: digest.toLowerCase() });
    }
    this.#digests = digests;
  }

  static async open(path: string): Promise<Archive> {
    const store = await HostFile.open(path, { readOnly: true, lock: false });
    try {
      if (/\.ovf$/i.test(path)) return await Archive.#beside(store, path);
      const files = await readTar(store);
      const name = [...files.keys()].find((one) => /\.ovf$/i.test(one));
      if (name === undefined) throw new StorageError("STORAGE_OPEN", `${path}: it holds no .ovf: it is no appliance`);
      const open = async (file: string) => {
        const place = files.get(file);
        if (place === undefined) throw new StorageError("STORAGE_OPEN", `${path}: its file ${file} is missing`);
        return new Slice(store, file, place);
      };
      const manifest = name.replace(/\.ovf$/i, ".mf");
      const digests = files.has(manifest) ? await textOf(await open(manifest)) : "";
      return await new Archive(store, await textOf(await open(name)), open, digests).#checked(name);
    } catch (error) {
      await store.close();
      throw error;
    }
  }

  static async #beside(store: Store, path: string): Promise<Archive> {
    const open = (name: string) => HostFile.open(join(dirname(path), name), { readOnly: true, lock: false });
    const manifest = await HostFile.open(path.replace(/\.ovf$/i, ".mf"), { readOnly: true, lock: false }).then(
      async (file) => await textOf(file).finally(() => file.close()),
      // Appliances need none.
      () => "",
    );
    return await new Archive(store, await textOf(store), open, manifest).#checked(basename(path));
  }

  /** The description itself has a digest too. */
  async #checked(name: string): Promise<Archive> {
    if (this.#digests.has(name)) await (await this.open(name)).close();
    return this;
  }

  /** Opens a file after its content was compared with the manifest's digest, if there is one. */
  async open(name: string): Promise<Store> {
    const file = await this.#open(name);
    try {
      const expected = this.#digests.get(name);
      if (expected !== undefined && (await digestOf(file, expected.algorithm)) !== expected.digest) {
        throw new StorageError("STORAGE_OPEN", `${file.name} is not what its manifest says: it was damaged or changed`);
      }
      return file;
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#store.close();
  }
}

async function textOf(store: Store): Promise<string> {
  if (store.sizeBytes > MAX_TEXT_BYTES) {
    throw new StorageError("STORAGE_OPEN", `${store.name} has ${store.sizeBytes} bytes: it is no description`);
  }
  const bytes = Buffer.alloc(store.sizeBytes);
  await store.read(0, [bytes]);
  return bytes.toString("utf8");
}

async function digestOf(store: Store, algorithm: string): Promise<string> {
  const hash = createHash(algorithm);
  const step = Buffer.alloc(STEP_BYTES);
  for (let at = 0; at < store.sizeBytes; at += STEP_BYTES) {
    const part = step.subarray(0, Math.min(STEP_BYTES, store.sizeBytes - at));
    await store.read(at, [part]);
    hash.update(part);
  }
  return hash.digest("hex");
}
