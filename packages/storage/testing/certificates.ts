/** Certificates of a test's own authority, laid out as QEMU and libnbd expect them. */

import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

/** Makes `directory` with ca-cert.pem, and the certificate and key of a server and of a client. */
export function makeCertificates(directory: string): void {
  mkdirSync(directory);
  const openssl = (...args: string[]) => {
    const { status, stderr } = spawnSync("openssl", args, { cwd: directory, encoding: "utf8" });
    if (status !== 0) throw new Error(`openssl ${args[0]}: ${stderr}`);
  };
  const authority = ["-addext", "basicConstraints=critical,CA:TRUE", "-subj", "/CN=test authority", "-days", "2"];
  openssl("req", "-x509", ...KEY, "-keyout", "ca-key.pem", "-out", "ca-cert.pem", ...authority);
  writeFileSync(join(directory, "names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n");
  const signing = ["-CA", "ca-cert.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-extfile", "names", "-days", "2"];
  for (const who of ["server", "client"]) {
    openssl("req", ...KEY, "-keyout", `${who}-key.pem`, "-out", `${who}.csr`, "-subj", `/CN=${who}`);
    openssl("x509", "-req", "-in", `${who}.csr`, "-out", `${who}-cert.pem`, ...signing);
  }
}
