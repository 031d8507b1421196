/** Disks over a network: the NBD protocol, both sides. */

export { isNbdUri, type NbdAddress, parseNbdUri } from "./client/address.ts";
export { NbdStore, type NbdStoreOptions } from "./client/nbd-store.ts";
export { allocationDepth, baseAllocation, dirtyBitmap } from "./server/contexts.ts";
export type { MetaContext, NbdExport, NbdExports, StatusExtent } from "./server/export.ts";
export { NbdServer, type NbdServerOptions } from "./server/server.ts";
export type { TlsCredentials } from "./tls.ts";
