/** The image `debian`: a small Debian with systemd, apt and a login on the serial console, on a disk; and the agent's service. */

import { cp, mkdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import type { Program } from "./programs.ts";
import type { ImageFiles, ImageRecipe } from "./recipe.ts";

const SUITE = "bookworm";
const PACKAGES = [
  "systemd-sysv",
  "systemd-resolved",
  "udev",
  "dbus",
  "kmod",
  "login",
  "iproute2",
  "iputils-ping",
  "netbase",
];
/** Sparse: what is used of it is some 300 MB. */
const DISK_SIZE = "4G";

/** What would only keep a machine in software busy after its boot; apt itself works. */
const DISABLED = [
  "apt-daily.timer",
  "apt-daily-upgrade.timer",
  "dpkg-db-backup.timer",
  "e2scrub_all.timer",
  "fstrim.timer",
];

/** Others work in a user namespace, which needs uidmap and a range in /etc/subuid. */
const AS_ROOT = process.getuid?.() === 0;

export const debian: ImageRecipe = {
  name: "debian",
  description: "a small Debian with systemd and apt on a disk",
  // The release of the contents: raise it with every change, so that images are built anew.
  version: 3,
  roomBytes: 2 * 2 ** 30,
  build,
};

async function build(directory: string, say: (step: string) => void, signal?: AbortSignal): Promise<ImageFiles> {
  // Every start loads this recipe, and hardly any builds it.
  const { APT_PROGRAMS } = await import("./debian-packages.ts");
  const { fetchLinux, GUEST, makeInitramfs } = await import("./linux.ts");
  const { requirePrograms, runProgram } = await import("./programs.ts");
  const programs: Program[] = [
    ...APT_PROGRAMS,
    "xz",
    "mmdebstrap",
    "mke2fs",
    "sh",
    ...(AS_ROOT ? [] : ["fakeroot" as const]),
  ];
  requirePrograms(programs, "building the image debian");
  if (!AS_ROOT) await (await import("./user-namespace.ts")).requireUserNamespace("building the image debian");
  const linux = await fetchLinux(directory, say, signal);
  const overlay = join(directory, "overlay");
  await cp(join(GUEST, "debian"), overlay, { recursive: true });
  await cp(join(GUEST, "agent"), join(overlay, "usr/lib/lodge/agent"));
  const modules = join(overlay, "usr/lib/modules", linux.release);
  await mkdir(modules, { recursive: true });
  for (const path of linux.modules) await cp(path, join(modules, basename(path)));

  say("installing Debian's packages");
  const inside = (command: string) => `--customize-hook=chroot "$1" ${command}`;
  const archive = join(directory, "root.tar");
  const args = [
    ...["--quiet", "--variant=apt", "--architectures=amd64", `--include=${PACKAGES.join(",")}`],
    // Left to itself it would try another way, which cannot work, and complain of that one.
    ...(AS_ROOT ? [] : ["--mode=unshare"]),
    `--customize-hook=sync-in "${overlay}" /`,
    inside(`depmod ${linux.release}`),
    inside("passwd --delete root"),
    inside("systemctl --quiet enable systemd-networkd.service systemd-resolved.service lodge-told.service"),
    inside(`systemctl --quiet mask ${DISABLED.join(" ")}`),
    ...[SUITE, archive],
  ];
  await runProgram("mmdebstrap", args, { cwd: directory, signal });

  say("making the disk");
  const disk = join(directory, "disk");
  const tree = join(directory, "tree");
  await mkdir(tree);
  const script = `tar -x -p --numeric-owner -f "$1" -C "$2" && "$5" -q -F -t ext4 -m 1 -L root -d "$2" "$3" "$4"`;
  const mke2fs = ["sh", "-c", script, "sh", archive, tree, disk, DISK_SIZE, "mke2fs"];
  // Owners are those of the archive, which only root could give to files, and mke2fs takes them from there.
  if (AS_ROOT) await runProgram("sh", mke2fs.slice(1), { signal });
  else await runProgram("fakeroot", ["--", ...mke2fs], { signal });
  return {
    kernel: linux.kernel,
    initrd: await makeInitramfs(linux, {
      modules: ["virtio_pci", "virtio_blk", "ext4"],
      directories: [],
      files: [["init", await readFile(join(GUEST, "disk-init")), true]],
    }),
    disk,
    // Services that are slow to report, for the same reason as in guest/debian/etc/systemd/system.conf.d, are not killed.
    append: "console=ttyS0 quiet systemd.service_watchdogs=0",
    made: [...linux.made, `Debian ${SUITE}`],
  };
}
