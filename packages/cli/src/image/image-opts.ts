/** qemu-img's --image-opts and --object: images as lists of options, and what their connections are secured with. */

import { StorageError } from "@lodge/storage";
import type { Named } from "./options.ts";
import { parseSize } from "./size.ts";

/** What QEMU has bytes by; any other driver is a format on top of one of them. */
const PROTOCOLS: readonly (string | undefined)[] = ["file", "host_device", "nbd"];

/** A part of an address: what TLS adds to it. */
interface Credentials {
  user: string;
  parameter: [name: string, value: string];
}

/** The image that `text` describes. */
export function describedImage(text: string, objects: ReadonlyMap<string, Credentials>): Named {
  const options = new Options("--image-opts", text);
  const driver = options.take("driver");
  const isBare = PROTOCOLS.includes(driver);
  const at = isBare ? "" : "file.";
  const protocol = isBare ? driver : options.take("file.driver");
  if (protocol !== undefined && !PROTOCOLS.includes(protocol)) {
    throw options.wrong(
      `the driver ${protocol} is none that files or servers are reached by: there are file, host_device, nbd`,
    );
  }
  const path = protocol === "nbd" ? nbdAddress(options, at, objects) : options.take(`${at}filename`);
  if (path === undefined || path === "") {
    throw options.wrong("it names no image: that is file.filename=PATH, or file.driver=nbd with its server");
  }
  const format = isBare ? "raw" : driver;
  const [direct, noFlush] = [options.flag("cache.direct"), options.flag("cache.no-flush")];
  const [forceShare, readOnly] = [options.flag("force-share"), options.flag("read-only")];
  const [offset, sizeBytes] = [options.size("offset"), options.size("size")];
  options.end();
  return {
    path,
    options: {
      ...(format !== undefined && { format }),
      ...(direct !== undefined && { direct }),
      ...(noFlush !== undefined && { flushes: !noFlush }),
      ...(forceShare !== undefined && { lock: !forceShare }),
      ...(readOnly && { readOnly }),
      ...((offset ?? sizeBytes) !== undefined && {
        part: { offset: offset ?? 0, ...(sizeBytes !== undefined && { sizeBytes }) },
      }),
    },
  };
}

function nbdAddress(options: Options, at: string, objects: ReadonlyMap<string, Credentials>): string {
  const place = (name: string) => options.take(`${at}server.${name}`) ?? options.take(`${at}${name}`);
  const [type, host, port, socket] = [options.take(`${at}server.type`), place("host"), place("port"), place("path")];
  const isUnix = socket !== undefined;
  if (isUnix === (host !== undefined) || (type !== undefined && type !== (isUnix ? "unix" : "inet"))) {
    throw options.wrong("an NBD server is at a host (server.type=inet) or at a Unix socket's path (server.type=unix)");
  }
  const name = encodeURIComponent(options.take(`${at}export`) ?? "");
  const parameters: [string, string][] = isUnix ? [["socket", socket]] : [];
  const id = options.take(`${at}tls-creds`);
  const credentials = id === undefined ? undefined : objects.get(id);
  if (id !== undefined && credentials === undefined) throw options.wrong(`no --object has the id ${id}`);
  if (credentials !== undefined) parameters.push(credentials.parameter);
  const hostname = options.take(`${at}tls-hostname`);
  if (hostname !== undefined) parameters.push(["tls-hostname", hostname]);
  const query = parameters.map(([key, value]) => `${key}=${encodeURIComponent(value)}`).join("&");
  const user = credentials?.user ? `${encodeURIComponent(credentials.user)}@` : "";
  const server = isUnix ? "" : `${host!.includes(":") ? `[${host}]` : host}${port === undefined ? "" : `:${port}`}`;
  return `nbd${credentials ? "s" : ""}${isUnix ? "+unix" : ""}://${user}${server}/${name}${query && `?${query}`}`;
}

/** By their ids. */
export function credentialsOf(texts: readonly string[]): Map<string, Credentials> {
  const objects = new Map<string, Credentials>();
  for (const text of texts) {
    const options = new Options("--object", text, "qom-type");
    const type = options.take("qom-type");
    if (type !== "tls-creds-x509" && type !== "tls-creds-psk") {
      throw options.wrong("there are tls-creds-x509 and tls-creds-psk; nothing here takes a secret");
    }
    const [id, folder, endpoint = "client"] = [options.take("id"), options.take("dir"), options.take("endpoint")];
    if (id === undefined || folder === undefined) throw options.wrong("id=NAME and dir=FOLDER are needed");
    if (endpoint !== "client") throw options.wrong("images are opened with endpoint=client");
    if (objects.has(id)) throw options.wrong(`another one has the id ${id}`);
    if (type === "tls-creds-psk") {
      objects.set(id, { user: options.take("username") ?? "", parameter: ["tls-psk-file", `${folder}/keys.psk`] });
    } else {
      if (options.flag("verify-peer") === false) throw options.wrong("a server's certificate is always verified");
      objects.set(id, { user: "", parameter: ["tls-certificates", folder] });
    }
    options.end();
  }
  return objects;
}

/** `name=value,…`, in which a comma of a value is written twice. */
class Options {
  readonly #left = new Map<string, string>();
  readonly #text: string;

  /** The first one may be the value of `implied` alone. */
  constructor(option: string, text: string, implied?: string) {
    this.#text = `${option} ${text}`;
    for (const [index, part] of (text.match(/(?:[^,]|,,)+/g) ?? []).entries()) {
      const [, name = index === 0 ? implied : undefined, value] = /^(?:([^=]*)=)?(.*)$/s.exec(part)!;
      if (name === undefined || name === "") throw this.wrong(`${part} is not NAME=VALUE`);
      this.#left.set(name, value!.replaceAll(",,", ","));
    }
  }

  take(name: string): string | undefined {
    const value = this.#left.get(name);
    this.#left.delete(name);
    return value;
  }

  flag(name: string): boolean | undefined {
    const value = this.take(name);
    if (value === undefined) return undefined;
    if (/^(on|yes|true|y)$/.test(value)) return true;
    if (/^(off|no|false|n)$/.test(value)) return false;
    throw this.wrong(`${name} is on or off, not ${value}`);
  }

  size(name: string): number | undefined {
    const value = this.take(name);
    return value === undefined ? undefined : parseSize(value);
  }

  end(): void {
    for (const name of this.#left.keys()) throw this.wrong(`there is no ${name}`);
  }

  wrong(why: string): StorageError {
    return new StorageError("STORAGE_OPEN", `${this.#text}: ${why}`);
  }
}
