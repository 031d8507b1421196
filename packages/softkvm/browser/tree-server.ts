/**
 * The tree over HTTP, as a browser can run it: sources without their types, and imports of our packages as paths. (Workers
 * have no import maps.) Pages are cross-origin isolated, as shared memory needs.
 */

import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { stripTypeScriptTypes } from "node:module";
import type { AddressInfo } from "node:net";
import { join, normalize } from "node:path";

const root = join(import.meta.dirname, "../../..");

/** What else the server answers: the response's text, by path. */
export interface Answers {
  readonly get: Readonly<Record<string, () => string>>;
  /** Takes a body. */
  readonly post: Readonly<Record<string, (body: string) => void>>;
}

export class TreeServer implements AsyncDisposable {
  readonly url: string;
  readonly #server: ReturnType<typeof createServer>;

  private constructor(server: ReturnType<typeof createServer>) {
    this.#server = server;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  static async start(answers: Answers): Promise<TreeServer> {
    const server = createServer((request, response) => {
      void answer(request, response, answers).catch((error) => {
        response.writeHead(500).end(String(error));
      });
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return new TreeServer(server);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }
}

async function answer(request: IncomingMessage, response: ServerResponse, { get, post }: Answers): Promise<void> {
  const { pathname } = new URL(request.url ?? "/", "http://tree");
  response.setHeader("Cross-Origin-Opener-Policy", "same-origin");
  response.setHeader("Cross-Origin-Embedder-Policy", "require-corp");
  const take = request.method === "POST" ? post[pathname] : undefined;
  if (take !== undefined) {
    let body = "";
    for await (const chunk of request.setEncoding("utf8")) body += chunk;
    take(body);
    response.writeHead(204).end();
    return;
  }
  const give = get[pathname];
  if (give !== undefined) {
    response.writeHead(200, { "Content-Type": pathname.endsWith(".json") ? "application/json" : "text/html" });
    response.end(give());
    return;
  }
  const path = normalize(decodeURIComponent(pathname));
  if (!path.startsWith("/packages/") || !path.endsWith(".ts")) {
    response.writeHead(404).end();
    return;
  }
  response.writeHead(200, { "Content-Type": "text/javascript" }).end(runnable(readFileSync(join(root, path), "utf8")));
}

/** A source as a browser runs it. */
function runnable(source: string): string {
  const stripped = stripTypeScriptTypes(source);
  return stripped.replaceAll(/(\b(?:from|import)\s*)"(@lodge\/[^"]+)"/g, (_, keyword, name) => {
    const file = import.meta.resolve(name).slice(`file://${root}`.length);
    return `${keyword}"${file}"`;
  });
}
