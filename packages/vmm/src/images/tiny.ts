/**
 * The image `tiny`: Debian's cloud kernel, and busybox in an initramfs with the modules of the machine's devices. It needs
 * no disk, and forgets everything.
 */

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Program } from "./programs.ts";
import type { ImageFiles, ImageRecipe } from "./recipe.ts";

/** Drivers of the machine's devices, and what is mounted in small machines. */
const MODULES = [
  ...["virtio_pci", "virtio_blk", "virtio_console", "virtio_net", "virtio_rng", "virtio_balloon", "virtio_mem"],
  ...[
    "virtio_pmem",
    "nd_pmem",
    "virtiofs",
    "vmw_vsock_virtio_transport",
    "9pnet_virtio",
    "9p",
    "pvpanic_mmio",
    "button",
  ],
  ...["overlay", "squashfs", "isofs", "vfat", "nls_ascii", "nls_cp437", "af_packet", "crc32c_generic"],
];

/**
 * An agent has four ports (see guest/agent), and is told when the last of them is there. Disks and network cards may come later:
 * their drivers are loaded when they do. (Not before: disks are numbered as their driver finds them, one after the other.)
 */
const MDEV = `${[1, 5, 9, 13].map((first) => `vport0p${first + 3} 0:0 600 @echo >/run/lodge/${first}`).join("\n")}
$MODALIAS=virtio:d0000000[12]v.* 0:0 600 @[ -e /run/lodge/up ] && exec modprobe -q "$MODALIAS"
null|zero|full|random|urandom|tty|ptmx 0:0 666
.* 0:0 600
`;

const PROFILE = `PS1='\\w # '
export PS1 HOME=/root TERM="\${TERM:-linux}"
cd
`;

export const tiny: ImageRecipe = {
  name: "tiny",
  description: "Debian's cloud kernel with busybox; forgets everything",
  // The release of the contents below: raise it with every change, so that images are built anew.
  version: 8,
  roomBytes: 256 * 2 ** 20,
  build,
};

async function build(directory: string, say: (step: string) => void, signal?: AbortSignal): Promise<ImageFiles> {
  // Every start loads this recipe, and hardly any builds it.
  const { APT_PROGRAMS } = await import("./debian-packages.ts");
  const { fetchLinux, GUEST, makeInitramfs } = await import("./linux.ts");
  const { requirePrograms } = await import("./programs.ts");
  requirePrograms([...APT_PROGRAMS, "xz"] satisfies Program[], "building an image");
  const linux = await fetchLinux(directory, say, signal);
  say("making the initramfs");
  const guest = (name: string) => readFile(join(GUEST, name));
  const initrd = await makeInitramfs(linux, {
    modules: MODULES,
    directories: [],
    files: [
      ["init", await guest("tiny-init"), true],
      ["lib/lodge/agent", await guest("agent"), true],
      ["lib/lodge/dhcp", await guest("dhcp"), true],
      ["etc/mdev.conf", MDEV],
      ["etc/passwd", "root::0:0:root:/root:/bin/sh\n"],
      ["etc/group", "root:x:0:\n"],
      ["etc/profile", PROFILE],
      ["etc/hosts", "127.0.0.1 localhost lodge\n::1 localhost\n"],
    ],
  });
  return { kernel: linux.kernel, initrd, append: "console=ttyS0 quiet", made: linux.made };
}
