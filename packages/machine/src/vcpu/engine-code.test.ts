import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { engineCode } from "./engine-code.ts";

/** A module whose function `f` adds 5. */
const ADDING = new Uint8Array(
  [
    [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    [1, 6, 1, 0x60, 1, 0x7f, 1, 0x7f],
    [3, 2, 1, 0],
    [7, 5, 1, 1, 0x66, 0, 0],
    [10, 9, 1, 7, 0, 0x20, 0, 0x41, 5, 0x6a, 0x0b],
  ].flat(),
);

/** As a vCPU's thread does when it is idle (garbage.ts): V8 forgets the code of functions that have not run for a while. */
function collect(): void {
  setFlagsFromString("--expose-gc");
  const gc = runInNewContext("globalThis.gc") as (options: object) => void;
  setFlagsFromString("--no-expose-gc");
  for (let times = 0; times < 10; times++) gc({ type: "major", execution: "sync", flavor: "last-resort" });
}

/** In a process of its own, as within one V8 has a module's code for all threads: what it says of the function. */
function loaded(saved: Uint8Array, ...flags: string[]): unknown {
  const script = `
    import { setFlagsFromString } from "node:v8";
    import { engineCode } from ${JSON.stringify(join(import.meta.dirname, "engine-code.ts"))};
    const [saved, bytes] = process.argv.slice(1).map((text) => new Uint8Array(Buffer.from(text, "base64")));
    const module = engineCode().load(saved, bytes);
    if (module === undefined) console.log(JSON.stringify("refused"));
    else {
      setFlagsFromString("--allow-natives-syntax");
      const { f } = new WebAssembly.Instance(module).exports;
      console.log(JSON.stringify([f(3), new Function("f", "return %IsTurboFanFunction(f)")(f)]));
    }
  `;
  const texts = [saved, ADDING].map((bytes) => Buffer.from(bytes).toString("base64"));
  const args = [...flags, "--input-type=module", "--eval", script, ...texts];
  return JSON.parse(execFileSync(process.execPath, args, { encoding: "utf8" }));
}

test("optimized code comes back as that in another process, to the same engine only", () => {
  const engine = engineCode();
  const module = new WebAssembly.Module(ADDING);
  const add = new WebAssembly.Instance(module).exports.f as (to: number) => number;
  assert.equal(engine.save(module, [add]), undefined, "it was not even called");
  assert.equal(add(3), 8);
  assert.equal(engine.save(module, [add]), undefined, "it is the baseline compiler's");
  collect();
  setFlagsFromString("--allow-natives-syntax");
  new Function("f", "%WasmTierUpFunction(f)")(add);
  setFlagsFromString("--no-allow-natives-syntax");
  const saved = engine.save(module, [add])!;
  collect();
  assert.equal(engine.save(module, [add])?.length, saved.length);
  assert.deepEqual(loaded(saved), [8, true]);
  assert.equal(loaded(saved, "--wasm-tiering-budget=1"), "refused");
  // V8's number, its version, the processor's features, the flags.
  for (const at of [0, 4, 8, 12])
    assert.equal(loaded(saved.map((byte, index) => (index === at ? byte ^ 1 : byte))), "refused");
});
