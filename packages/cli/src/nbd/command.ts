/** `lodge nbd`: an image for everyone who speaks NBD, until its last client goes. Options are named as qemu-nbd's. */

import { type Image, openImage, StorageError } from "@lodge/storage";
import { allocationDepth, baseAllocation, dirtyBitmap, NbdServer, type TlsCredentials } from "@lodge/storage/nbd";
import { Command, InvalidArgumentError } from "commander";
import { onSignals, signalStatus } from "../run/signals.ts";

interface NbdFlags {
  format?: string;
  readOnly?: true;
  port?: number;
  bind?: string;
  socket?: string;
  exportName: string;
  description?: string;
  persistent?: true;
  shared: number;
  allocationDepth?: true;
  bitmap?: string;
  tlsCertificates?: string;
  tlsVerifyPeer?: boolean;
  tlsPsk?: string;
}

/** IANA's port for NBD. */
const PORT = 10809;

export function nbdCommand(): Command {
  return new Command("nbd")
    .description("serve an image over NBD until its last client goes")
    .argument("<image>", "a disk image, or another NBD server's address")
    .option("-f, --format <format>", "the image's format; its content decides unless it is given")
    .option("-r, --read-only", "let nobody write")
    .option(
      "-p, --port <port>",
      `the TCP port to listen at; 0 is any free one (default: ${PORT})`,
      wholeNumber("--port", 65535),
    )
    .option("-b, --bind <address>", "the address to listen at (default: 127.0.0.1)")
    .option("-k, --socket <path>", "listen at this Unix socket instead")
    .option("-x, --export-name <name>", "the name that clients ask for", "")
    .option("-D, --description <text>", "what clients are told of it")
    .option("-t, --persistent", "go on when the last client has gone")
    .option("-e, --shared <n>", "clients at once; 0 is any number", wholeNumber("--shared", 65535), 1)
    .option("-A, --allocation-depth", "tell which image of the backing chain has a byte")
    .option("-B, --bitmap <name>", "tell what this persistent bitmap of a read-only qcow2 image says")
    .option("--tls-certificates <folder>", "speak TLS only, with the folder's server-cert.pem and server-key.pem")
    .option("--tls-verify-peer", "and with clients that the folder's ca-cert.pem has signed")
    .option("--tls-psk <file>", "speak TLS only, with the keys of this file, lines of NAME:KEY")
    .allowExcessArguments(false)
    .action(async (path: string, flags: NbdFlags) => {
      const tls = credentials(flags);
      const listen = place(flags);
      const { format, readOnly = false } = flags;
      const image = await openImage(path, { readOnly, ...(format !== undefined && { format }) });
      try {
        process.exitCode = await serve(image, flags, listen, tls);
        if (!image.readOnly) await image.flush();
      } finally {
        await image.close();
      }
    });
}

type Place = { path: string } | { port: number; host: string };

/** Serves until the last client has gone or a signal comes; the status. */
async function serve(image: Image, flags: NbdFlags, listen: Place, tls: TlsCredentials | undefined): Promise<number> {
  const { promise: ended, resolve: end } = Promise.withResolvers<number>();
  using _signals = onSignals((signal) => end(signalStatus(signal)));
  const { exportName, description, shared, readOnly = false } = flags;
  const contexts = [baseAllocation(image), ...(flags.allocationDepth ? [allocationDepth(image)] : [])];
  if (flags.bitmap !== undefined) contexts.push(await dirtyBitmap(image, flags.bitmap));
  const offered = { disk: image, readOnly, contexts, ...(description !== undefined && { description }) };
  await using server = await NbdServer.start({
    exports: new Map([[exportName, offered]]),
    listen,
    ...(tls && { tls }),
    ...(shared > 0 && { maxClients: shared }),
    onClients: (count) => {
      if (count === 0 && !flags.persistent) end(0);
    },
    onRefused: (reason) => console.error(`lodge: a client was cut off: ${reason}`),
  });
  // Whoever started this waits for the line, and can use it as it is.
  console.log(address(listen, server.port, flags));
  return await ended;
}

/** Where clients find it. */
function address(listen: Place, port: number | undefined, { exportName, tlsCertificates, tlsPsk }: NbdFlags): string {
  const scheme = tlsCertificates === undefined && tlsPsk === undefined ? "nbd" : "nbds";
  const name = encodeURIComponent(exportName);
  if ("path" in listen) return `${scheme}+unix:///${name}?socket=${encodeURI(listen.path)}`;
  const host = listen.host.includes(":") ? `[${listen.host}]` : listen.host;
  return `${scheme}://${host}${port === PORT ? "" : `:${port}`}/${name}`;
}

function place({ socket, port = PORT, bind = "127.0.0.1" }: NbdFlags): Place {
  if (socket === undefined) return { port, host: bind };
  if (port !== PORT || bind !== "127.0.0.1")
    throw new StorageError("STORAGE_OPEN", "--socket stands alone: it has no port nor address");
  if (Buffer.byteLength(socket) > 107)
    throw new StorageError("STORAGE_OPEN", `--socket ${socket}: a socket's path has 107 bytes at most`);
  return { path: socket };
}

function credentials({ tlsCertificates, tlsVerifyPeer = false, tlsPsk }: NbdFlags): TlsCredentials | undefined {
  if (tlsCertificates !== undefined && tlsPsk !== undefined) {
    throw new StorageError("STORAGE_OPEN", "--tls-certificates and --tls-psk: one of them");
  }
  if (tlsVerifyPeer && tlsCertificates === undefined) {
    throw new StorageError("STORAGE_OPEN", "--tls-verify-peer goes with --tls-certificates");
  }
  if (tlsPsk !== undefined) return { psk: tlsPsk };
  return tlsCertificates === undefined ? undefined : { certificates: tlsCertificates, verifyPeer: tlsVerifyPeer };
}

function wholeNumber(option: string, most: number): (text: string) => number {
  return (text) => {
    if (!/^\d{1,9}$/.test(text) || Number(text) > most) {
      throw new InvalidArgumentError(`${option} is a whole number from 0 to ${most}`);
    }
    return Number(text);
  };
}
