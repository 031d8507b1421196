/** NBD's addresses, as NetworkBlockDevice/nbd's doc/uri.md spells them. */

import { StorageError } from "../../errors.ts";
import { MAX_STRING_BYTES, NBD_PORT } from "../protocol.ts";
import type { TlsCredentials } from "../tls.ts";

export interface NbdAddress {
  /** As the user wrote it. */
  uri: string;
  to: { path: string } | { host: string; port: number };
  exportName: string;
  tls?: TlsCredentials;
  /** Whose certificate the server has to have; its host's unless it is given. */
  tlsHostname?: string;
  /** How many connections there may be, where the server takes several; 1 unless it is given. */
  connections?: number;
}

/** More would be a burden to the server and help nobody. */
const MOST_CONNECTIONS = 16;

const SCHEME = /^(nbds?)(\+unix)?:\/\//i;

export function isNbdUri(text: string): boolean {
  return SCHEME.test(text);
}

/**
 * `nbd://HOST[:PORT]/[EXPORT]`, `nbd+unix:///[EXPORT]?socket=PATH`, and `nbds` for TLS, with `tls-certificates=FOLDER` or
 * `tls-psk-file=FILE` and the user's name before the host, and `tls-hostname=NAME`. `connections=N` is ours.
 */
export function parseNbdUri(uri: string): NbdAddress {
  const wrong = (why: string) => new StorageError("STORAGE_OPEN", `${uri}: ${why}`);
  const scheme = SCHEME.exec(uri);
  if (scheme === null) throw wrong("an NBD address begins with nbd://, nbds://, nbd+unix:// or nbds+unix://");
  const unix = scheme[2] !== undefined;
  const parameters = queryOf(uri, wrong);
  const { url, exportName, user } = parse(uri, wrong);
  if (Buffer.byteLength(exportName) > MAX_STRING_BYTES)
    throw wrong(`an export's name has ${MAX_STRING_BYTES} bytes at most`);

  const secure = scheme[1]!.toLowerCase() === "nbds";
  const tls = secure ? credentials(user, parameters, wrong) : undefined;
  if (!secure && [...parameters.keys()].some((name) => name.startsWith("tls-"))) throw wrong("TLS has the scheme nbds");
  const tlsHostname = parameters.get("tls-hostname");
  const connections = numberOfConnections(parameters.get("connections"), wrong);
  const rest = {
    uri,
    exportName,
    ...(tls && { tls }),
    ...(tlsHostname !== undefined && { tlsHostname }),
    ...(connections !== undefined && { connections }),
  };
  const path = parameters.get("socket");
  if (!unix) {
    if (path !== undefined) throw wrong("a socket's path goes with nbd+unix://");
    if (url.hostname === "") throw wrong("there is no host");
    const port = url.port === "" ? NBD_PORT : Number(url.port);
    // A URL has IPv6 addresses in brackets, connect() has not.
    return { ...rest, to: { host: url.hostname.replace(/^\[(.*)\]$/, "$1"), port } };
  }
  if (url.host !== "") throw wrong("a Unix socket has no host: nbd+unix:///EXPORT?socket=PATH");
  if (path === undefined || path === "") throw wrong("the path of the socket is missing: ?socket=PATH");
  return { ...rest, to: { path } };
}

type Wrong = (why: string) => StorageError;

/** A user before no host, as a Unix socket has none; URL takes none then. */
const UNIX_USER = /^(nbds?\+unix:\/\/)([^/?@]*)@(?=[/?])/i;

function parse(uri: string, wrong: Wrong): { url: URL; exportName: string; user: string } {
  try {
    const url = new URL(uri.replace(UNIX_USER, "$1"));
    const user = decodeURIComponent(UNIX_USER.exec(uri)?.[2] ?? url.username);
    return { url, exportName: decodeURIComponent(url.pathname.replace(/^\//, "")), user };
  } catch {
    throw wrong("this is no address");
  }
}

const PARAMETERS = ["socket", "tls-certificates", "tls-psk-file", "tls-hostname", "connections"];

function numberOfConnections(text: string | undefined, wrong: Wrong): number | undefined {
  if (text === undefined) return undefined;
  const number = Number(text);
  if (/^\d+$/.test(text) && number >= 1 && number <= MOST_CONNECTIONS) return number;
  throw wrong(`connections is 1 to ${MOST_CONNECTIONS}, not "${text}"`);
}

/** The parameters, in which "+" is no space, other than in forms. */
function queryOf(uri: string, wrong: Wrong): Map<string, string> {
  const parameters = new Map<string, string>();
  const cut = uri.indexOf("?");
  if (cut < 0) return parameters;
  for (const pair of uri.slice(cut + 1).split("&")) {
    const [name = "", ...value] = pair.split("=");
    if (!PARAMETERS.includes(name)) {
      throw wrong(`"${name}" is no parameter; there are ${PARAMETERS.join(", ")}`);
    }
    try {
      parameters.set(name, decodeURIComponent(value.join("=")));
    } catch {
      throw wrong(`the value of ${name} is badly encoded`);
    }
  }
  return parameters;
}

function credentials(user: string, parameters: Map<string, string>, wrong: Wrong): TlsCredentials {
  const certificates = parameters.get("tls-certificates");
  const psk = parameters.get("tls-psk-file");
  if ((certificates === undefined) === (psk === undefined)) {
    throw wrong("TLS needs tls-certificates=FOLDER or tls-psk-file=FILE");
  }
  if (certificates !== undefined) return { certificates };
  return { psk: psk!, ...(user !== "" && { user }) };
}
