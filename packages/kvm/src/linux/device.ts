/** /dev/kvm itself: opening it, and what it means when that fails. */

import { close, Errno, OpenFlag, open, SystemError, tryIoctl } from "@lodge/linux";
import { KvmError } from "../errors.ts";
import { Request } from "./requests.ts";

/** The only version of the interface there has been since Linux 2.6.22. */
export const API_VERSION = 12;

/** Opens the device and makes sure that it is KVM's, of the version that Lodge speaks. The caller closes it. */
export function openDevice(path: string): number {
  const fd = openFile(path);
  try {
    checkApiVersion(tryIoctl(fd, Request.KVM_GET_API_VERSION, 0), path);
    return fd;
  } catch (error) {
    close(fd);
    throw error;
  }
}

/** Refuses what KVM_GET_API_VERSION returned: a version, or a negative `errno` from what is no KVM. */
export function checkApiVersion(version: number, path: string): void {
  if (version === API_VERSION) return;
  if (version < 0) throw foreign(path, new SystemError(-version, "ioctl", path));
  throw new KvmError(
    "KVM_API_VERSION",
    `${path} speaks version ${version} of KVM's interface, and Lodge version ${API_VERSION}: boot a kernel of Linux ` +
      "2.6.22 or newer, or use the software processor",
  );
}

function openFile(path: string): number {
  try {
    return open(path, OpenFlag.RDWR);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    switch (error.errno) {
      case Errno.ENOENT:
      case Errno.ENODEV:
      case Errno.ENXIO:
        throw new KvmError(
          "KVM_ABSENT",
          `no KVM on this host (${path}: ${error.code}): switch virtualization on in the firmware and load kvm_intel or ` +
            "kvm_amd, or use the software processor",
          { cause: error },
        );
      case Errno.EACCES:
      case Errno.EPERM:
        throw new KvmError(
          "KVM_PERMISSION",
          `no permission for ${path}: add your user to the group that owns it (usermod -aG kvm NAME, then log in anew)`,
          { cause: error },
        );
      default:
        throw foreign(path, error);
    }
  }
}

function foreign(path: string, cause: SystemError): KvmError {
  return new KvmError(
    "KVM_ABSENT",
    `${path} is not KVM's device (${cause.code}): the kernel's is /dev/kvm, a character device that udev makes`,
    { cause },
  );
}
