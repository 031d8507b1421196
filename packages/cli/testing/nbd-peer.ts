/** qemu-nbd, which serves what our commands ask for, and certificates for the two. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

function run(cwd: string, program: string, ...args: string[]): void {
  const { status, stderr } = spawnSync(program, args, { cwd, encoding: "utf8", stdio: ["ignore", "ignore", "pipe"] });
  assert.equal(status, 0, `${program} ${args.join(" ")}: ${stderr}`);
}

/** Serves at a socket, an absolute path, from now on until it is disposed of. `args` are as in `folder`. */
export function serve(folder: string, socket: string, ...args: string[]): Disposable {
  const pidFile = `${socket}.pid`;
  // It forks when it listens.
  run(
    folder,
    "qemu-nbd",
    "--fork",
    `--pid-file=${pidFile}`,
    "--persistent",
    "--shared=8",
    `--socket=${socket}`,
    ...args,
  );
  const pid = Number(readFileSync(pidFile, "utf8"));
  return {
    [Symbol.dispose]: () => {
      process.kill(pid);
      // It is no child of ours.
      run(folder, "tail", `--pid=${pid}`, "--sleep-interval=0.05", "-f", "/dev/null");
    },
  };
}

/** Makes a folder with an authority's certificate, and one that is a server's and a client's, under the names that QEMU looks for. */
export function makeCertificates(folder: string): void {
  mkdirSync(folder);
  const make = (name: string, ...args: string[]) => {
    const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", `${name}-key.pem`];
    run(
      folder,
      "openssl",
      "req",
      "-x509",
      ...key,
      "-out",
      `${name}-cert.pem`,
      "-subj",
      `/CN=${name}`,
      "-days",
      "2",
      ...args,
    );
  };
  make("ca", "-addext", "basicConstraints=critical,CA:TRUE");
  const leaf = ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "subjectAltName=DNS:localhost"];
  make("server", "-CA", "ca-cert.pem", "-CAkey", "ca-key.pem", ...leaf);
  for (const part of ["cert", "key"])
    copyFileSync(join(folder, `server-${part}.pem`), join(folder, `client-${part}.pem`));
}
