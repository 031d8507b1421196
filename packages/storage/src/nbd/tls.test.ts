/** NBD over TLS with the peers' TLS (GnuTLS), both ways round. */

import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, mkdtempDisposableSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { before, test } from "node:test";
import { randomBytes } from "../../testing/bytes.ts";
import { makeCertificates } from "../../testing/certificates.ts";
import { MemoryStore } from "../../testing/memory-store.ts";
import { clientFlags, option } from "../../testing/nbd-messages.ts";
import { missing, qemuNbd, run } from "../../testing/peers.ts";
import { NbdStore } from "./client/nbd-store.ts";
import { Option } from "./protocol.ts";
import { baseAllocation } from "./server/contexts.ts";
import { NbdServer } from "./server/server.ts";
import type { TlsCredentials } from "./tls.ts";

const skip = missing("nbdinfo", "qemu-img", "qemu-nbd") || (missing("openssl") && "openssl is not installed");
const MIB = 1 << 20;
const dir = mkdtempDisposableSync(join(tmpdir(), "lodge-tls-"));
test.after(() => dir.remove());
const pki = join(dir.path, "pki");
/** The authority's certificate alone. */
const stranger = join(dir.path, "stranger");
/** As QEMU wants it: a folder with keys.psk. */
const keys = join(dir.path, "keys.psk");
const key = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

before(() => {
  if (skip) return;
  makeCertificates(pki);
  mkdirSync(stranger);
  copyFileSync(join(pki, "ca-cert.pem"), join(stranger, "ca-cert.pem"));
  writeFileSync(keys, `# comment\nqemu:${key}\nalice:${key.replaceAll("0", "9")}\n`);
});

async function serve(tls: TlsCredentials) {
  const store = MemoryStore.of(randomBytes(MIB, 1));
  const exports = new Map([["", { disk: store, readOnly: false, contexts: [baseAllocation(store)] }]]);
  const refused: string[] = [];
  const listen = { port: 0, host: "127.0.0.1" };
  const server = await NbdServer.start({ exports, listen, tls, onRefused: (reason) => refused.push(reason) });
  return Object.assign(server, { store, refused });
}

test("certificates: libnbd, QEMU and our own client", { skip }, async () => {
  await using server = await serve({ certificates: pki, verifyPeer: true });
  const info = JSON.parse(await run("nbdinfo", "--json", `nbds://localhost:${server.port}/?tls-certificates=${pki}`));
  assert.deepEqual([info.TLS, info.exports[0]["export-size"]], [true, MIB]);
  await run(
    ...(["qemu-img", "info", "--object", `tls-creds-x509,id=t,endpoint=client,dir=${pki}`, "--image-opts"] as const),
    `driver=nbd,host=localhost,port=${server.port},tls-creds=t`,
  );
  const disk = await NbdStore.open(`nbds://localhost:${server.port}/?tls-certificates=${pki}`);
  const into = Buffer.alloc(MIB);
  await disk.read(0, [into]);
  assert.ok(into.equals(server.store.bytes));
  await disk.write(512, [randomBytes(500_000, 2)]);
  assert.ok(server.store.bytes.subarray(512, 500_512).equals(randomBytes(500_000, 2)));
  await disk.close();
});

test("who has no certificate, or no TLS, gets nothing", { skip }, async () => {
  await using server = await serve({ certificates: pki, verifyPeer: true });
  const at = `localhost:${server.port}/`;
  await assert.rejects(run("nbdinfo", `nbds://${at}?tls-certificates=${stranger}`), /TLS fatal alert/);
  assert.match(server.refused.at(-1)!, /peer did not return a certificate/);
  await assert.rejects(run("nbdinfo", `nbd://${at}`));
  await assert.rejects(run("nbdinfo", "--list", `nbd://${at}`));
  await assert.rejects(NbdStore.open(`nbd://${at}`), {
    code: "STORAGE_OPEN",
    message: /wants TLS: its address is nbds/,
  });
  await using lenient = await serve({ certificates: pki });
  await run("nbdinfo", `nbds://localhost:${lenient.port}/?tls-certificates=${stranger}`);
});

test("a shared key: libnbd, QEMU and our own client", { skip }, async () => {
  await using server = await serve({ psk: keys });
  const at = `127.0.0.1:${server.port}/?tls-psk-file=${keys}`;
  assert.equal(JSON.parse(await run("nbdinfo", "--json", `nbds://alice@${at}`)).TLS, true);
  await run(
    ...([
      "qemu-img",
      "info",
      "--object",
      `tls-creds-psk,id=t,endpoint=client,dir=${dir.path}`,
      "--image-opts",
    ] as const),
    `driver=nbd,host=127.0.0.1,port=${server.port},tls-creds=t`,
  );
  const disk = await NbdStore.open(`nbds://alice@${at}`);
  const into = Buffer.alloc(MIB);
  await disk.read(0, [into]);
  assert.ok(into.equals(server.store.bytes));
  await disk.close();
  await assert.rejects(NbdStore.open(`nbds://bob@${at}`), { code: "STORAGE_OPEN", message: /has no key of "bob"/ });
  const wrong = join(dir.path, "wrong.psk");
  writeFileSync(wrong, `alice:${key.replaceAll("0", "8")}\n`);
  const uri = `nbds://alice@127.0.0.1:${server.port}/?tls-psk-file=${wrong}`;
  await assert.rejects(NbdStore.open(uri), { code: "STORAGE_OPEN", message: /TLS/ });
});

test("our client with qemu-nbd's certificates and key", { skip }, async () => {
  const image = join(dir.path, "disk.raw");
  writeFileSync(image, randomBytes(MIB, 4));
  const into = Buffer.alloc(MIB);
  for (const [name, object, query] of [
    ["x509", `tls-creds-x509,id=t,endpoint=server,dir=${pki},verify-peer=yes`, `tls-certificates=${pki}`],
    ["psk", `tls-creds-psk,id=t,endpoint=server,dir=${dir.path}`, `tls-psk-file=${keys}`],
  ] as const) {
    const socket = join(dir.path, name);
    await using _peer = await qemuNbd(socket, "--object", object, "--tls-creds=t", "--format=raw", image);
    const disk = await NbdStore.open(`nbds+unix:///?socket=${socket}&${query}`);
    into.fill(0);
    await disk.read(0, [into]);
    assert.ok(into.equals(randomBytes(MIB, 4)), name);
    await disk.close();
  }
});

test("a certificate of another name or authority is refused", { skip }, async () => {
  await using server = await serve({ certificates: pki });
  const other = join(dir.path, "other");
  makeCertificates(other);
  await assert.rejects(NbdStore.open(`nbds://localhost:${server.port}/?tls-certificates=${other}`), {
    code: "STORAGE_OPEN",
    message: /TLS: .*(self-signed|verify|certificate)/,
  });
  await assert.rejects(NbdStore.open(`nbds://127.0.0.2:${server.port}/?tls-certificates=${pki}`), {
    code: "STORAGE_OPEN",
  });
});

test("what is sent in the clear behind STARTTLS is not taken for the client's", { skip }, async () => {
  await using server = await serve({ certificates: pki });
  const socket = connect(server.port!, "127.0.0.1");
  socket.write(Buffer.concat([clientFlags(), option(Option.STARTTLS), option(Option.LIST)]));
  await buffer(socket);
  assert.match(server.refused.join(), /data before TLS/);
});

test("credentials that are not there or are none are named", { skip }, async () => {
  const broken = join(dir.path, "broken.psk");
  writeFileSync(broken, "alice=secret\n");
  await assert.rejects(serve({ psk: broken }), { code: "STORAGE_OPEN", message: /broken\.psk: .*NAME:KEY/ });
  await assert.rejects(serve({ certificates: stranger }), {
    code: "STORAGE_OPEN",
    message: /server-cert\.pem: ENOENT/,
  });
  const mixed = join(dir.path, "mixed");
  mkdirSync(mixed);
  copyFileSync(join(pki, "server-cert.pem"), join(mixed, "server-cert.pem"));
  copyFileSync(join(pki, "client-key.pem"), join(mixed, "server-key.pem"));
  await assert.rejects(serve({ certificates: mixed }), { code: "STORAGE_OPEN", message: /mixed: .*mismatch/ });
});
