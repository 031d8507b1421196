/**
 * The process that serves a network: started by the first machine on it, in a session of its own so that no machine's end is
 * its end, and gone with the last. Should it be killed, the machines that are left start another. It says on stdout what has
 * become of its start: `ready`, `busy` (another process serves the network, or is about to), or why it cannot be.
 */

import { rmSync } from "node:fs";
import { readNetwork } from "../definition/store.ts";
import type { SavedLease } from "../nat/dhcp/leases.ts";
import { SwitchFile, switchPlace } from "./place.ts";
import { SwitchServer } from "./server.ts";

/** Whoever has started this connects at once. */
const FIRST_CLIENT_MS = 10_000;

async function serve(name: string): Promise<void> {
  const definition = readNetwork(name);
  const place = switchPlace(name);
  using file = SwitchFile.take(place);
  if (file === undefined) {
    process.stdout.write("busy\n");
    return;
  }
  // A process that was killed left it.
  rmSync(place.socket, { force: true });
  const { promise: ended, resolve: end } = Promise.withResolvers<void>();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => end());
  const first = setTimeout(end, FIRST_CLIENT_MS);
  await using _server = new SwitchServer(place.socket, {
    definition,
    leases: { before: savedLeases(file.read()), keep: (leases) => file.write(leases) },
    onClients: (count) => {
      clearTimeout(first);
      if (count === 0) end();
    },
  });
  process.title = `lodge net ${name}`;
  process.stdout.write("ready\n");
  await ended;
  clearTimeout(first);
}

/** What is not as it was written is forgotten: machines ask again. */
function savedLeases(value: unknown): SavedLease[] {
  if (!Array.isArray(value)) return [];
  return value.filter((one) => typeof one?.mac === "string" && Number.isInteger(one?.index));
}

try {
  await serve(process.argv[2] ?? "");
} catch (error) {
  process.stdout.write(`${(error as Error).message.replaceAll("\n", " ")}\n`);
  process.exitCode = 1;
}
