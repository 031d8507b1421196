/** The KVM interface in software: guests run on an x86-64 processor made of WebAssembly. Runs in Node and browsers. */

export type { CompileThread } from "./compiler/compile-thread.ts";
export type { CodeStore, Engine } from "./machine/code-store.ts";
export { cpuModel } from "./machine/cpu-models.ts";
export { SoftHypervisor } from "./machine/hypervisor.ts";
export { DEFAULT_MODEL } from "./machine/models.ts";
export { openSoft, type SoftServices } from "./machine/open.ts";
