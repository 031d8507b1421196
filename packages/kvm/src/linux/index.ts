/** The KVM interface over the Linux kernel's /dev/kvm. */

export { memoryEncryption } from "./encryption.ts";
export { LinuxHypervisor, openKvm } from "./hypervisor.ts";
