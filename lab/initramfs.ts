/** The initramfs: busybox, the two guest scripts and the modules needed to reach the host's files and to run KVM. */

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { cpio, type Entry } from "../packages/vmm/src/images/cpio.ts";
import { findProgram } from "../packages/vmm/src/images/programs.ts";
import { LabError } from "./errors.ts";
import { collectModules, readModuleTree } from "./modules.ts";
import { missingTools } from "./tools.ts";

/** In three groups, because guest/init loads the last one beside the others. */
const moduleGroups = {
  transport: ["virtio_pci", "virtio_console"],
  files: ["9pnet_virtio", "9p", "overlay"],
  kvm: ["kvm_amd"],
};

// guest/init finds these as commands.
const applets = "cat chroot cp insmod killall mdev mkdir mkfifo mount reboot sh".split(" ");

const inPlace = (name: string) => readFileSync(join(import.meta.dirname, name));
// On the console, so that guest/init goes on when the last of the ports is there (see channels.ts).
const mdevConf = "vport0p4 0:0 600 @echo >/ports\n.* 0:0 600\n";

function readBusybox(): Buffer {
  const path = findProgram("busybox");
  if (path === undefined) throw new LabError("UNAVAILABLE", missingTools(["busybox"]) ?? "busybox is missing");
  return readFileSync(path);
}

/** What the initramfs is made from, apart from the kernel's modules. */
export type Ingredients = { busybox: Buffer; init: Buffer; run: Buffer };

export function readIngredients(): Ingredients {
  return { busybox: readBusybox(), init: inPlace("guest/init"), run: inPlace("guest/run") };
}

/** The same for the same ingredients; the code that puts them together counts as one. */
export function initramfsKey(ingredients: Ingredients): string {
  const hash = createHash("sha256");
  const code = [
    "initramfs.ts",
    "../packages/vmm/src/images/cpio.ts",
    "../packages/vmm/src/images/kernel-modules.ts",
    "modules.ts",
  ].map(inPlace);
  for (const part of [...code, ingredients.busybox, ingredients.init, ingredients.run]) {
    hash.update(`${part.length}\n`).update(part);
  }
  return hash.digest("hex").slice(0, 16);
}

export function makeInitramfs(ingredients: Ingredients, modulesDirectory: string): Buffer {
  const tree = readModuleTree(modulesDirectory);
  const entries: Entry[] = [];
  for (const path of ["bin", "dev", "etc", "guest", "host", "modules", "new", "proc", "sys", "tmp", "upper"]) {
    entries.push({ kind: "directory", path });
  }
  const file = (path: string, data: Buffer | string, mode = 0o644) =>
    entries.push({ kind: "file", path, mode, data: Buffer.from(data) });
  // The kernel opens it for the first program before that could make one.
  entries.push({ kind: "characters", path: "dev/console", major: 5, minor: 1 });
  file("init", ingredients.init, 0o755);
  file("guest/run", ingredients.run);
  file("etc/mdev.conf", mdevConf);
  file("bin/busybox", ingredients.busybox, 0o755);
  for (const applet of applets) entries.push({ kind: "link", path: `bin/${applet}`, to: "busybox" });

  const known = new Set<string>();
  for (const [group, wanted] of Object.entries(moduleGroups)) {
    const modules = collectModules(tree, wanted, known);
    for (const [name, module] of modules) {
      known.add(name);
      file(`modules/${name}.ko`, module);
    }
    file(`modules/${group}`, [...modules.keys()].join("\n"));
  }
  if (!known.has("kvm_amd")) throw new LabError("BUILD", `no kvm-amd below ${modulesDirectory}`);
  return cpio(entries);
}
