/**
 * What V8 has made of WebAssembly modules, as bytes: the machine code of what it has optimized. Only its own tests' functions give it
 * away, which a program can name while it is switched on to do so. The bytes say of which V8, flags and processor they are, and
 * V8 takes no others; whoever keeps them answers for them.
 */

import { setFlagsFromString } from "node:v8";
import type { Engine } from "@lodge/softkvm";

type Save = (module: object) => ArrayBuffer;
type IsOptimized = (f: unknown) => boolean;
type Load = (saved: ArrayBuffer, bytes: Uint8Array) => object | undefined;

/** Undefined: another thread, which did the same, has switched it off meanwhile; or this V8 has none of it. */
export function engineCode(): Engine | undefined {
  setFlagsFromString("--allow-natives-syntax");
  try {
    const save = new Function("module", "return %SerializeWasmModule(module)") as Save;
    const load = new Function("saved", "bytes", "return %DeserializeWasmModule(saved, bytes)") as Load;
    const isOptimized = new Function("f", "return %IsTurboFanFunction(f)") as IsOptimized;
    return {
      // It ends the process where there is nothing to save.
      save: (module, functions) => {
        for (const each of functions) if (isOptimized(each)) return new Uint8Array(save(module));
        return undefined;
      },
      load: (saved, bytes) => load(new Uint8Array(saved).buffer, bytes),
    };
  } catch {
    return undefined;
  } finally {
    setFlagsFromString("--no-allow-natives-syntax");
  }
}
