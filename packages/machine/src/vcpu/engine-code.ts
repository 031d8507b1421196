/**
 * What V8 has made of WebAssembly modules, as bytes: the machine code of what it has optimized. Only its own tests' functions give it
 * away, which a program can name while it is switched on to do so. The bytes say of which V8, flags and processor they are, and
 * V8 takes no others; whoever keeps them answers for them.
 */

import { setFlagsFromString } from "node:v8";
import type { Engine } from "@lodge/softkvm";

interface Natives {
  readonly save: (module: object) => ArrayBuffer;
  readonly load: (saved: ArrayBuffer, bytes: Uint8Array) => object | undefined;
  readonly isOptimized: (f: unknown) => boolean;
}

/** Throws where another thread, which does the same, has switched it off meanwhile, or this V8 has none of it. */
function makeNatives(): Natives {
  setFlagsFromString("--allow-natives-syntax");
  try {
    return {
      save: new Function("module", "return %SerializeWasmModule(module)") as Natives["save"],
      load: new Function("saved", "bytes", "return %DeserializeWasmModule(saved, bytes)") as Natives["load"],
      isOptimized: new Function("f", "return %IsTurboFanFunction(f)") as Natives["isOptimized"],
    };
  } finally {
    setFlagsFromString("--no-allow-natives-syntax");
  }
}

export function engineCode(): Engine {
  let natives: Natives | undefined;
  /** Undefined where there is none of it. */
  const ask = <Answer>(question: (natives: Natives) => Answer): Answer | undefined => {
    for (let tries = 0; tries < 2; tries++) {
      try {
        natives ??= makeNatives();
        return question(natives);
      } catch {
        // Garbage collections take the code of functions that have not run for a while, and V8 reads them anew by what is switched on then.
        natives = undefined;
      }
    }
    return undefined;
  };
  return {
    save: (module, functions) =>
      ask(({ save, isOptimized }) => {
        // It ends the process where there is nothing to save.
        for (const each of functions) if (isOptimized(each)) return new Uint8Array(save(module));
        return undefined;
      }),
    load: (saved, bytes) => ask(({ load }) => load(new Uint8Array(saved).buffer, bytes)),
  };
}
