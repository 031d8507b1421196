/** What a worker of a browser has, as far as it is used here; Node's types know none of it. */

export interface WebWorker {
  postMessage(message: unknown): void;
  terminate(): void;
  addEventListener(type: "message", listener: (event: { data: unknown }) => void): void;
  addEventListener(type: "error", listener: (event: { message: string }) => void): void;
}

export const web = globalThis as unknown as {
  readonly Worker: new (url: URL, options: { type: "module" }) => WebWorker;
  readonly crossOriginIsolated: boolean;
  postMessage(message: unknown): void;
  addEventListener(type: "message", listener: (event: { data: unknown }) => void): void;
};
