/** Pools of disks, by the host's own means. */

export { DevicePool } from "./device.ts";
export { FolderPool } from "./folder.ts";
export { type IscsiOptions, IscsiPool } from "./iscsi.ts";
export { type LvmOptions, LvmPool } from "./lvm.ts";
export { type NetworkFolderOptions, NetworkFolderPool } from "./network-folder.ts";
export type { Capacity, NewVolume, Pool, Volume } from "./pool.ts";
