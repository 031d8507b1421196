/**
 * Where Lodge's own modules are, said to Node in a word. Of the time that loading some hundreds of modules takes, Node spends half on
 * finding out that a path is what it says: links, folders' package.json, endings. Ours are written out in full, and a package of
 * ours is the same one for all that import it.
 */

import { registerHooks } from "node:module";

const own = new URL(import.meta.url);
const ending = /\.\w+$/.exec(own.pathname)![0];
/** Where the packages are, in a clone as under node_modules. */
const packages = own.href.slice(0, own.href.lastIndexOf("/machine/") + 1);
const format = ending === ".ts" ? "module-typescript" : "module";

/** For the thread that calls it, from now on. */
export function resolveOwnModulesQuickly(): void {
  const entries = new Map<string, { readonly url: string; readonly format: string }>();
  registerHooks({
    resolve: (specifier, context, next) => {
      const { parentURL } = context;
      if (!parentURL?.startsWith(packages) || parentURL.includes("/node_modules/", packages.length)) {
        return next(specifier, context);
      }
      if (specifier.startsWith("node:")) return { url: specifier, format: "builtin", shortCircuit: true };
      if (specifier.startsWith(".") && specifier.endsWith(ending)) {
        return { url: new URL(specifier, parentURL).href, format, shortCircuit: true };
      }
      if (!specifier.startsWith("@lodge/")) return next(specifier, context);
      const known = entries.get(specifier);
      if (known !== undefined) return { ...known, shortCircuit: true };
      const found = next(specifier, context);
      const { url } = found;
      if (url.startsWith(packages)) entries.set(specifier, { url, format });
      return found;
    },
  });
}
