/**
 * The part of the WebAssembly JavaScript interface that Lodge uses. Node and browsers have it; TypeScript types it only
 * together with the whole DOM, which Lodge must not see.
 */
declare namespace WebAssembly {
  interface MemoryDescriptor {
    initial: number | bigint;
    maximum?: number | bigint;
    shared?: boolean;
    address?: "i32" | "i64";
  }
  class Memory {
    constructor(descriptor: MemoryDescriptor);
    readonly buffer: ArrayBuffer | SharedArrayBuffer;
    grow(delta: number): number;
  }

  interface TableDescriptor {
    element: "anyfunc" | "externref";
    initial: number;
    maximum?: number;
  }
  // biome-ignore lint/suspicious/noExplicitAny: an exported function has the signature that its module gave it
  type ExportedFunction = (...args: any[]) => any;
  class Table {
    constructor(descriptor: TableDescriptor);
    readonly length: number;
    get(index: number): ExportedFunction | null;
    set(index: number, value?: ExportedFunction | null): void;
    grow(delta: number): number;
  }

  interface GlobalDescriptor {
    value: "i32" | "i64" | "f32" | "f64" | "v128" | "externref" | "anyfunc";
    mutable?: boolean;
  }
  class Global<T = number | bigint> {
    constructor(descriptor: GlobalDescriptor, value?: T);
    value: T;
  }

  type ExportValue = ExportedFunction | Memory | Table | Global;
  // biome-ignore lint/suspicious/noExplicitAny: an imported function takes what the module gives it
  type ImportValue = ((...args: any[]) => unknown) | Memory | Table | Global | number | bigint;
  type Imports = Record<string, Record<string, ImportValue>>;

  class Module {
    constructor(bytes: BufferSource);
    static imports(module: Module): { readonly module: string; readonly name: string; readonly kind: string }[];
  }
  type BufferSource = ArrayBuffer | ArrayBufferView;
  class Instance {
    constructor(module: Module, imports?: Imports);
    readonly exports: Record<string, ExportValue>;
  }

  class CompileError extends Error {}
  class LinkError extends Error {}
  class RuntimeError extends Error {}

  function validate(bytes: BufferSource): boolean;
  function compile(bytes: BufferSource): Promise<Module>;
  function instantiate(module: Module, imports?: Imports): Promise<Instance>;
}
