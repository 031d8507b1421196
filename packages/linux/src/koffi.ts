/**
 * koffi's native part, straight. koffi itself finds it among those of twenty platforms, and wraps what it has deprecated, which takes
 * 5 ms of each thread's start; the part takes 0.7. Where it does not lie or fit so (another C library, say), koffi finds it.
 */

import { createRequire } from "node:module";
import type whole from "koffi";

type Koffi = typeof whole;

const require = createRequire(import.meta.url);

function load(): Koffi {
  try {
    return require(`@koromix/koffi-linux-${process.arch}/linux_${process.arch}/koffi.node`);
  } catch {
    return require("koffi");
  }
}

export const koffi = load();
