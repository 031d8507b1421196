/**
 * The image `tiny`: Debian's cloud kernel, and busybox in an initramfs with the modules of the machine's devices. It needs
 * no disk, and forgets everything.
 */

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { VmmError } from "../errors.ts";
import { applets } from "./busybox.ts";
import { cpio, type Entry } from "./cpio.ts";
import { APT_PROGRAMS, downloadPackages, unpackFiles } from "./debian-packages.ts";
import { collectModules, isModule, type KernelModule, moduleIndex } from "./kernel-modules.ts";
import { type Program, requirePrograms } from "./programs.ts";
import type { ImageFiles, ImageRecipe } from "./recipe.ts";

const KERNEL = "linux-image-cloud-amd64";

/** Drivers of the machine's devices, and what is mounted in small machines. */
const MODULES = [
  ...["virtio_pci", "virtio_blk", "virtio_console", "virtio_net", "virtio_rng", "virtio_balloon", "virtio_mem"],
  ...["virtio_pmem", "virtiofs", "vmw_vsock_virtio_transport", "9pnet_virtio", "9p", "pvpanic_mmio", "button"],
  ...["overlay", "squashfs", "isofs", "vfat", "nls_ascii", "nls_cp437", "af_packet", "crc32c_generic"],
];

/** An agent has four ports (see guest/agent), and is told when the last of them is there. */
const MDEV = `${[1, 5, 9, 13].map((first) => `vport0p${first + 3} 0:0 600 @echo >/run/lodge/${first}`).join("\n")}
null|zero|full|random|urandom|tty|ptmx 0:0 666
.* 0:0 600
`;

const PROFILE = `PS1='\\w # '
export PS1 HOME=/root TERM="\${TERM:-linux}"
cd
`;

const GUEST = join(import.meta.dirname, "../../guest");

export const tiny: ImageRecipe = {
  name: "tiny",
  description: "Debian's cloud kernel with busybox; forgets everything",
  // The release of the contents below: raise it with every change, so that images are built anew.
  version: 5,
  build,
};

async function build(directory: string, say: (step: string) => void, signal?: AbortSignal): Promise<ImageFiles> {
  requirePrograms([...APT_PROGRAMS, "xz"] satisfies Program[], "building an image");
  say("fetching Debian's cloud kernel and busybox");
  const [kernel, busybox] = await downloadPackages([`${KERNEL}*`, "busybox-static"], directory, signal);
  say("unpacking");
  const wanted = (path: string) => /\/boot\/vmlinuz-[^/]+$/.test(path) || isModule(path);
  const files = await unpackFiles(kernel!, directory, wanted, signal);
  const image = files.find((path) => path.includes("/boot/vmlinuz-"));
  const [program] = await unpackFiles(busybox!, directory, (path) => path.endsWith("/bin/busybox"), signal);
  if (image === undefined || program === undefined) {
    throw new VmmError("VMM_IMAGE", `${kernel!.name} holds no kernel, or busybox-static no busybox`);
  }
  const modules = await collectModules(
    files.filter(isModule).map((path) => join(directory, path)),
    MODULES,
  );
  const release = image.slice(image.indexOf("vmlinuz-") + "vmlinuz-".length);
  say("making the initramfs");
  return {
    kernel: await readFile(join(directory, image)),
    initrd: await initramfs(await readFile(join(directory, program)), release, modules),
    append: "console=ttyS0 quiet",
    made: [kernel!, busybox!].map(({ name, version }) => `${name} ${version}`),
  };
}

async function initramfs(busybox: Buffer, release: string, modules: readonly KernelModule[]): Promise<Buffer> {
  const entries: Entry[] = [];
  const directories = "bin dev etc lib lib/lodge lib/modules mnt proc root run sbin sys tmp usr usr/bin usr/sbin var";
  for (const path of [...directories.split(" "), `lib/modules/${release}`]) entries.push({ kind: "directory", path });
  const file = (path: string, data: Buffer | string, mode = 0o644) =>
    entries.push({ kind: "file", path, mode, data: Buffer.from(data) });
  // The kernel opens it for the first program before that could make one.
  entries.push({ kind: "characters", path: "dev/console", major: 5, minor: 1 });
  file("bin/busybox", busybox, 0o755);
  for (const name of applets(busybox)) {
    if (name !== "busybox") entries.push({ kind: "link", path: `bin/${name}`, to: "busybox" });
  }
  entries.push({ kind: "link", path: "sbin/modprobe", to: "/bin/busybox" });
  file("init", await readFile(join(GUEST, "tiny-init")), 0o755);
  file("lib/lodge/agent", await readFile(join(GUEST, "agent")), 0o755);
  file("lib/lodge/dhcp", await readFile(join(GUEST, "dhcp")), 0o755);
  file("etc/mdev.conf", MDEV);
  file("etc/passwd", "root::0:0:root:/root:/bin/sh\n");
  file("etc/group", "root:x:0:\n");
  file("etc/profile", PROFILE);
  file("etc/hosts", "127.0.0.1 localhost lodge\n::1 localhost\n");
  const { dep, alias } = moduleIndex(modules);
  file(`lib/modules/${release}/modules.dep`, dep);
  file(`lib/modules/${release}/modules.alias`, alias);
  for (const { name, data } of modules) file(`lib/modules/${release}/${name}.ko`, data);
  return cpio(entries);
}
