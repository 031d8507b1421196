/** TLS for both sides of NBD: credentials from files, laid out as QEMU, libnbd and nbdkit lay them out. */

import { readFile } from "node:fs/promises";
import { isIP } from "node:net";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import {
  connect,
  createSecureContext,
  createServer,
  type SecureContext,
  type TLSSocket,
  type TlsOptions,
} from "node:tls";
import { StorageError } from "../errors.ts";

/** Certificates in a folder, or keys that both sides know. */
export type TlsCredentials =
  | {
      /** Holds ca-cert.pem, and server-cert.pem with server-key.pem, or client-cert.pem with client-key.pem. */
      certificates: string;
      /** A server then refuses clients without a certificate that the authority has signed. A client always verifies. */
      verifyPeer?: boolean;
    }
  | {
      /** A file with lines of NAME:KEY, the key in hexadecimal; psktool makes it. */
      psk: string;
      /** Who a client says it is. */
      user?: string;
    };

const CIPHERS_PSK = "PSK+HIGH:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256:!aNULL";
/** A larger credential file is none. */
const MAX_FILE_BYTES = 1 << 20;

/** What wraps a server's accepted connections. */
export async function serverTls(credentials: TlsCredentials): Promise<(stream: Duplex) => Promise<Duplex>> {
  const options = await serverOptions(credentials);
  return async (stream) => {
    // A server of its own for each connection tells which of them has greeted, and checks the client's certificate.
    const server = createServer(options);
    const { promise, resolve, reject } = Promise.withResolvers<Duplex>();
    server.once("secureConnection", resolve).once("tlsClientError", reject);
    stream.once("close", () => reject(new Error("the peer closed the connection")));
    server.emit("connection", stream);
    return await greeted(promise);
  };
}

async function serverOptions(credentials: TlsCredentials): Promise<TlsOptions> {
  const minVersion = "TLSv1.2";
  if ("psk" in credentials) {
    const keys = await readKeys(credentials.psk);
    return { minVersion, ciphers: CIPHERS_PSK, pskCallback: (_, identity) => keys.get(identity) ?? null };
  }
  const { certificates: folder, verifyPeer = false } = credentials;
  const [cert, key] = await Promise.all([read(join(folder, "server-cert.pem")), read(join(folder, "server-key.pem"))]);
  const asking = verifyPeer && { ca: await read(join(folder, "ca-cert.pem")), requestCert: true };
  const options = { minVersion, cert, key, ...asking } as const;
  // Says now what is wrong with the files, not to the first client.
  context(folder, options);
  return options;
}

/** What wraps a client's connections to `host`. */
export async function clientTls(
  credentials: TlsCredentials,
  host: string,
): Promise<(stream: Duplex) => Promise<Duplex>> {
  if ("psk" in credentials) {
    const { psk: file, user = "qemu" } = credentials;
    const psk = (await readKeys(file)).get(user);
    if (psk === undefined) throw new StorageError("STORAGE_OPEN", `${file} has no key of "${user}"`);
    const secureContext = context(file, { ciphers: CIPHERS_PSK });
    return (socket) => {
      // The shared key is what proves who the server is.
      const checkServerIdentity = () => undefined;
      return greeting(
        connect({ socket, secureContext, checkServerIdentity, pskCallback: () => ({ psk, identity: user }) }),
      );
    };
  }
  const folder = credentials.certificates;
  const ca = await read(join(folder, "ca-cert.pem"));
  const [cert, key] = await Promise.all([
    readIfThere(join(folder, "client-cert.pem")),
    readIfThere(join(folder, "client-key.pem")),
  ]);
  const secureContext = context(folder, { ca, ...(cert && key && { cert, key }) });
  const named = isIP(host) === 0 ? { servername: host } : {};
  return (socket) => greeting(connect({ socket, secureContext, host, ...named }));
}

async function greeting(stream: TLSSocket): Promise<Duplex> {
  const { promise, resolve, reject } = Promise.withResolvers<Duplex>();
  stream.once("secureConnect", () => resolve(stream)).once("error", reject);
  stream.once("close", () => reject(new Error("the peer closed the connection")));
  try {
    return await greeted(promise);
  } catch (error) {
    stream.destroy();
    throw error;
  }
}

async function greeted(stream: Promise<Duplex>): Promise<Duplex> {
  try {
    // Later errors are followed by a close, which is what its reader hears.
    return (await stream).on("error", () => {});
  } catch (cause) {
    // OpenSSL's reason is for people, its message for its authors.
    const { reason, message } = cause as Error & { reason?: string };
    throw new StorageError("STORAGE_OPEN", `TLS: ${reason ?? message}`, { cause });
  }
}

function context(where: string, options: Parameters<typeof createSecureContext>[0]): SecureContext {
  try {
    return createSecureContext({ minVersion: "TLSv1.2", ...options });
  } catch (cause) {
    throw new StorageError("STORAGE_OPEN", `${where}: ${(cause as Error).message}`, { cause });
  }
}

async function readKeys(path: string): Promise<Map<string, Buffer>> {
  const keys = new Map<string, Buffer>();
  for (const line of (await read(path)).toString("utf8").split("\n")) {
    if (line.trim() === "" || line.startsWith("#")) continue;
    const cut = line.lastIndexOf(":");
    const hex = line.slice(cut + 1).trim();
    if (cut < 1 || !/^(?:[0-9a-f]{2})+$/i.test(hex)) {
      throw new StorageError("STORAGE_OPEN", `${path}: a line of it is not NAME:KEY with the key in hexadecimal`);
    }
    keys.set(line.slice(0, cut), Buffer.from(hex, "hex"));
  }
  return keys;
}

async function read(path: string): Promise<Buffer> {
  try {
    const content = await readFile(path);
    if (content.length > MAX_FILE_BYTES) throw new Error(`it has ${content.length} bytes`);
    return content;
  } catch (cause) {
    throw new StorageError("STORAGE_OPEN", `TLS credentials ${path}: ${(cause as Error).message}`, { cause });
  }
}

async function readIfThere(path: string): Promise<Buffer | undefined> {
  return await readFile(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw new StorageError("STORAGE_OPEN", `TLS credentials ${path}: ${error.message}`, { cause: error });
  });
}
