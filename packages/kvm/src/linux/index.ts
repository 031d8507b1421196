/** The KVM interface over the Linux kernel's /dev/kvm. */

export { LinuxHypervisor, openKvm } from "./hypervisor.ts";
