/** Debian's stock kernel: fetched by the system's own apt, unpacked without root, and made ready for a fast boot. */

import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { LabError } from "./errors.ts";
import { decompress } from "./modules.ts";
import { runTool } from "./tools.ts";

const metaPackage = "linux-image-amd64";

// The rest (sound, graphics, drivers of hardware) is most of the package, and nothing of it exists in the lab.
const kept =
  /^\.(\/usr)?\/(boot\/(vmlinuz|config)-[^/]+|lib\/modules\/[^/]+\/(modules\.[^/]+|kernel\/((arch|block|crypto|fs|lib|mm|net|virt)\/.*|drivers\/((block|char|crypto|firmware|md|nvme|vfio|vhost|virtio)\/.*|scsi\/[^/]*(scsi|sd_mod)[^/]*|net\/([^/]+|(bonding|ipvlan|vxlan|wireguard)\/[^/]+)))))$/;

/** apt's options for a package index of our own, for machines whose lists are absent or too old (containers). */
function privateLists(directory: string): string[] {
  const lists = join(directory, "lists");
  const cache = join(directory, "apt-cache");
  mkdirSync(join(lists, "partial"), { recursive: true });
  mkdirSync(join(cache, "archives", "partial"), { recursive: true });
  return ["-o", `Dir::State::lists=${lists}`, "-o", `Dir::Cache=${cache}`];
}

function download(directory: string, options: readonly string[]): string {
  const dependencies = runTool("apt-cache", [...options, "depends", "--important", metaPackage]).toString();
  const name = /^ *\|?Depends: (linux-image-\S+)$/m.exec(dependencies)?.[1];
  if (name === undefined) throw new LabError("BUILD", `apt knows no kernel behind ${metaPackage}`);
  runTool("apt-get", [...options, "-q", "download", name], { cwd: directory });
  const archive = readdirSync(directory).find((entry) => entry.startsWith(`${name}_`) && entry.endsWith(".deb"));
  if (archive === undefined) throw new LabError("BUILD", `apt-get download ${name} left no file`);
  return join(directory, archive);
}

function fetchPackage(directory: string): string {
  // Root's apt would otherwise want to become a user who cannot write here.
  const options = process.getuid?.() === 0 ? ["-o", "APT::Sandbox::User=root"] : [];
  try {
    return download(directory, options);
  } catch (cause) {
    if (!(cause instanceof LabError) || cause.code !== "BUILD") throw cause;
  }
  const own = [...options, ...privateLists(directory)];
  try {
    runTool("apt-get", [...own, "-q", "update"]);
    return download(directory, own);
  } catch (cause) {
    const said = cause instanceof Error ? cause.message : String(cause);
    throw new LabError(
      "BUILD",
      `apt cannot fetch the lab's kernel (${metaPackage}). The first use needs a Debian with its package sources and a ` +
        `network, later ones do not. ${said}`,
      { cause },
    );
  }
}

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
export function fetchKernel(directory: string): string {
  const scratch = join(directory, "scratch");
  mkdirSync(scratch);
  const archive = fetchPackage(scratch);
  const tree = join(scratch, "tree");
  mkdirSync(tree);
  const files = runTool("dpkg-deb", ["--fsys-tarfile", archive]);
  const listed = runTool("tar", ["-t"], { input: files }).toString().split("\n");
  const release = listed.map((path) => /\/lib\/modules\/([^/]+)\/$/.exec(path)?.[1]).find((name) => name !== undefined);
  if (release === undefined) throw new LabError("BUILD", `${archive} holds no modules`);
  const list = join(scratch, "list");
  writeFileSync(list, listed.filter((path) => kept.test(path) && !path.endsWith("/")).join("\n"));
  runTool("tar", ["-x", "-C", tree, "--no-same-owner", "--verbatim-files-from", "-T", list], { input: files });

  const image = readFileSync(join(tree, "boot", `vmlinuz-${release}`));
  writeFileSync(join(directory, "vmlinuz"), image);
  writeFileSync(join(directory, "vmlinux"), elfKernel(image));
  const library = readdirSync(tree).includes("lib") ? join(tree, "lib") : join(tree, "usr", "lib");
  runTool("busybox", ["depmod", "-b", join(library, ".."), release]);
  renameSync(join(library, "modules", release), join(directory, "modules"));
  // Where other distributions have it, so that one folder is enough inside.
  renameSync(join(tree, "boot", `config-${release}`), join(directory, "modules", "config"));
  rmSync(scratch, { recursive: true });
  const version = archive.split("_")[1] ?? "unknown";
  return `${release}_${decodeURIComponent(version).replaceAll(/[^\w.+~-]/g, "-")}`;
}
