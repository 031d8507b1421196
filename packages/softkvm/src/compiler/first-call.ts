/**
 * The engine compiles a function when it is called for the first time, in the thread that calls, and what comes of that is the module's,
 * in whatever thread that is used. So the thread that made a region's module calls its function, with nothing that a region could do any
 * harm to: a memory of one page, in which the vCPU's state, the first that a region reads, is not.
 */

let world: { readonly table: WebAssembly.Table; readonly imports: WebAssembly.Imports } | undefined;

export function firstCall(module: WebAssembly.Module, slot: number): void {
  world ??= nowhere(module);
  const { table, imports } = world;
  if (slot >= table.length) table.grow(slot + 1 - table.length);
  void new WebAssembly.Instance(module, imports);
  try {
    (table.get(slot) as (record: number) => number)(0);
  } catch (error) {
    if (!(error instanceof WebAssembly.RuntimeError)) throw error;
  }
  table.set(slot, null);
}

/** What modules of regions import: all import the same. */
function nowhere(module: WebAssembly.Module): NonNullable<typeof world> {
  const table = new WebAssembly.Table({ element: "anyfunc", initial: 1024 });
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const functions = WebAssembly.Module.imports(module).filter(({ kind }) => kind === "function");
  const nothing = () => 0;
  const lodge = { memory, table, ...Object.fromEntries(functions.map(({ name }) => [name, nothing])) };
  return { table, imports: { lodge } };
}
