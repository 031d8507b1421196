/**
 * The four virtio-serial ports between runner and guest. Each is one end of a socket pair that QEMU inherits, so there is
 * no path in the file system to clean up, and every one is connected before the guest starts.
 *
 * Order matters: the guest knows that ports are connected in the order of their numbers (see guest/run).
 */
export const channels = ["job", "stdin", "stdout", "stderr"] as const;

/** Descriptors 0 to 2 of QEMU are its own. */
export const firstChannelDescriptor = 3;

export function channelArguments(): string[] {
  // Two descriptors for each processor would be the default; the ports need one interrupt at all.
  const args = ["-device", "virtio-serial-pci,vectors=2"];
  for (const [index, name] of channels.entries()) {
    args.push("-chardev", `socket,id=${name},fd=${firstChannelDescriptor + index}`);
    args.push("-device", `virtserialport,chardev=${name},name=${name},nr=${index + 1}`);
  }
  return args;
}
