/** Debian's stock kernel: fetched by the system's own apt, unpacked without root, and made ready for a fast boot. */

import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { VmmError } from "../packages/vmm/src/errors.ts";
import { type DebianArchive, downloadPackages, unpackFiles } from "../packages/vmm/src/images/debian-packages.ts";
import { LabError } from "./errors.ts";
import { decompress } from "./modules.ts";
import { runTool } from "./tools.ts";

const metaPackage = "linux-image-amd64";

// The rest (sound, graphics, drivers of hardware) is most of the package, and nothing of it exists in the lab.
const kept =
  /^\.(\/usr)?\/(boot\/(vmlinuz|config)-[^/]+|lib\/modules\/[^/]+\/(modules\.[^/]+|kernel\/((arch|block|crypto|fs|lib|mm|net|virt)\/.*|drivers\/((block|char|crypto|firmware|md|nvme|vfio|vhost|virtio)\/.*|scsi\/[^/]*(scsi|sd_mod)[^/]*|net\/([^/]+|(bonding|ipvlan|vxlan|wireguard)\/[^/]+)))))$/;

/**
 * The ELF kernel inside a bzImage (boot protocol: setup_sects at 0x1f1, payload_offset and payload_length at 0x248). QEMU
 * enters it directly (PVH), which saves the emulated processor from unpacking it: 4 of 9 seconds.
 */
export function elfKernel(bzImage: Buffer): Buffer {
  if (bzImage.length < 0x250 || bzImage.toString("latin1", 0x202, 0x206) !== "HdrS") {
    throw new LabError("BUILD", "the kernel package holds no bzImage");
  }
  const start = ((bzImage.readUInt8(0x1f1) || 4) + 1) * 512 + bzImage.readUInt32LE(0x248);
  // kbuild appends the unpacked size, which xz would take for garbage.
  const payload = bzImage.subarray(start, start + bzImage.readUInt32LE(0x24c) - 4);
  const elf = decompress(payload);
  if (elf.toString("latin1", 0, 4) !== "\x7fELF") {
    throw new LabError("BUILD", "the kernel is compressed in a way that the lab does not know");
  }
  return elf;
}

/**
 * Fills `directory` with vmlinuz, vmlinux and modules/ (with the kernel's configuration) and returns the kernel's name: release and package version.
 */
export async function fetchKernel(directory: string): Promise<string> {
  const scratch = join(directory, "scratch");
  const tree = join(scratch, "tree");
  mkdirSync(tree, { recursive: true });
  const [archive, files] = await fetchPackage(scratch, tree);
  const release = files.map((path) => /\/boot\/vmlinuz-([^/]+)$/.exec(path)?.[1]).find((name) => name !== undefined);
  if (release === undefined) throw new LabError("BUILD", `${archive.name} holds no kernel`);

  const image = readFileSync(join(tree, "boot", `vmlinuz-${release}`));
  writeFileSync(join(directory, "vmlinuz"), image);
  writeFileSync(join(directory, "vmlinux"), elfKernel(image));
  const library = readdirSync(tree).includes("lib") ? join(tree, "lib") : join(tree, "usr", "lib");
  runTool("busybox", ["depmod", "-b", join(library, ".."), release]);
  renameSync(join(library, "modules", release), join(directory, "modules"));
  // Where other distributions have it, so that one folder is enough inside.
  renameSync(join(tree, "boot", `config-${release}`), join(directory, "modules", "config"));
  rmSync(scratch, { recursive: true });
  return `${release}_${archive.version.replaceAll(/[^\w.+~-]/g, "-")}`;
}

/** The package, and what was unpacked of it into `tree`. */
async function fetchPackage(scratch: string, tree: string): Promise<[DebianArchive, string[]]> {
  try {
    const [archive] = (await downloadPackages([`${metaPackage}*`], scratch)) as [DebianArchive];
    return [archive, await unpackFiles(archive, tree, (path) => kept.test(path))];
  } catch (cause) {
    if (!(cause instanceof VmmError)) throw cause;
    throw new LabError("BUILD", `the lab's kernel: ${cause.message}`, { cause });
  }
}
