/**
 * Where Lodge's own modules are, said to Node in a word. Of the time that loading some hundreds of modules takes, Node spends half on
 * finding out that a path is what it says: links, folders' package.json, endings. Ours are written out in full.
 */

import { registerHooks } from "node:module";

const own = new URL(import.meta.url);
const ending = /\.\w+$/.exec(own.pathname)![0];
/** Where the packages are, in a clone as under node_modules. */
const packages = own.href.slice(0, own.href.lastIndexOf("/machine/") + 1);
const format = ending === ".ts" ? "module-typescript" : "module";

/** For the thread that calls it, from now on. */
export function resolveOwnModulesQuickly(): void {
  registerHooks({
    resolve: (specifier, context, next) => {
      const { parentURL } = context;
      const isOurs = specifier.startsWith(".") && specifier.endsWith(ending) && parentURL?.startsWith(packages);
      if (!isOurs || parentURL!.includes("/node_modules/", packages.length)) return next(specifier, context);
      return { url: new URL(specifier, parentURL).href, format, shortCircuit: true };
    },
  });
}
