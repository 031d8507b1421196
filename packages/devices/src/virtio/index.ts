/** virtio 1.2: devices, their queues, and the registers of the PCI transport. */

export { BalloonDevice, type BalloonOptions } from "./balloon/balloon.ts";
export { releaseInFile } from "./balloon/host-pages.ts";
export type { Statistics } from "./balloon/statistics.ts";
export { BlkDevice, type BlkOptions, type ErrorPolicy, type RequestFailure } from "./blk/blk.ts";
export { ConsoleDevice, type ConsoleOptions } from "./console/console.ts";
export type { ConsolePort, PortOptions } from "./console/port.ts";
export { DEVICE_MEMORY_GRAIN, type DeviceMemory, type DriverLink, Feature, VirtioDevice } from "./device.ts";
export { FsDevice } from "./fs/fs.ts";
export { NetDevice, type NetOptions } from "./net/net.ts";
export { VhostNetDevice, type VhostNetOptions } from "./net/vhost-net.ts";
export { P9Device } from "./p9/p9.ts";
export { PmemDevice, type PmemOptions } from "./pmem/pmem.ts";
export { type EntropySource, RngDevice } from "./rng/rng.ts";
export type { SharedFolderOptions } from "./shared-folder/device.ts";
export { NO_VECTOR, Status } from "./transport/shared.ts";
export { type TransportOptions, type VirtioInterrupts, VirtioTransport } from "./transport/transport.ts";
export { KernelBackEnd, type ServedTap } from "./vhost/kernel-back-end.ts";
export { UnixSockets } from "./vsock/unix-sockets.ts";
export { VsockDevice, type VsockOptions } from "./vsock/vsock.ts";
