/**
 * A module's text as the body of a function: what it imports comes from `$use`, what it exports is returned. Lines stay where
 * they are, so that errors name the source's. What it only passes on from another module is loaded when somebody asks for it, so that
 * a package's entry costs what is used of it. It knows what this tree's modules and commander's have: imports that begin a line, exports
 * that are declared or listed, no `let` among them and no import that leads back to its module. The engine refuses whatever else
 * is left.
 */

import { stripTypeScriptTypes } from "node:module";

/** The function's parameters. */
const PARAMETERS = "$use, $default, $later, $meta";

const IMPORT =
  /^import\s+(?:([\w$]+)\s*(?:,\s*)?)?(?:\*\s*as\s+([\w$]+)\s*|\{([^}]*)\}\s*)?(?:from\s*)?["']([^"']+)["'];?/gm;
const REEXPORT = /^export\s*(?:\*|\{([^}]*)\})\s*from\s*["']([^"']+)["'];?/gm;
const LIST = /^export\s*\{([^}]*)\};?/gm;
const DECLARATION = /^export(?=\s+(?:const|class|(?:async\s+)?function\b\*?)\s*([\w$]+))/gm;

/** `isTypeScript`: types are blanked out. */
export function asFunction(text: string, isTypeScript: boolean): string {
  const returned: string[] = [];
  const passedOn: string[] = [];
  const code = (isTypeScript ? withoutTypes(text) : text)
    .replace(IMPORT, (whole, standard, all, list, from) => {
      const source = JSON.stringify(from);
      const made = [
        ...(standard === undefined ? [] : [`const ${standard} = $default(${source});`]),
        ...(all === undefined ? [] : [`const ${all} = $use(${source});`]),
        ...(list === undefined ? [] : [`const {${list.replace(/(\S)\s+as\s+/g, "$1: ")}} = $use(${source});`]),
      ];
      return withLines(made.length === 0 ? `$use(${source});` : made.join(" "), whole);
    })
    .replace(REEXPORT, (whole, list, from) => {
      const source = JSON.stringify(from);
      if (list !== undefined) {
        for (const [own, other] of names(list)) returned.push(`get ${other}() { return $use(${source}).${own}; }`);
        return withLines("", whole);
      }
      passedOn.push(`Object.getOwnPropertyDescriptors($use(${source}))`);
      return withLines("", whole);
    })
    .replace(LIST, (whole, list) => {
      for (const [own, other] of names(list)) returned.push(`${other}: ${own}`);
      return withLines("", whole);
    })
    .replace(DECLARATION, (_whole, name) => {
      returned.push(name);
      return "      ";
    })
    .replace(/\bimport\.meta\b/g, "$meta")
    .replace(/\bimport\(/g, "$later(");
  const own = `{ ${returned.join(", ")} }`;
  const all =
    passedOn.length === 0
      ? own
      : `Object.defineProperties({}, Object.assign(${[...passedOn, `Object.getOwnPropertyDescriptors(${own})`].join(", ")}))`;
  return `(function (${PARAMETERS}) { "use strict"; ${code}\nreturn ${all};\n})`;
}

/** Node's own way of running TypeScript, which it calls stable, where it warns of the function that does the same. */
function withoutTypes(text: string): string {
  const { emitWarning } = process;
  process.emitWarning = () => {};
  try {
    return stripTypeScriptTypes(text);
  } finally {
    process.emitWarning = emitWarning;
  }
}

/** The names in a list, each with what it is called outside. */
function names(list: string): [own: string, other: string][] {
  return list
    .split(",")
    .map((one) => one.trim().split(/\s+as\s+/))
    .filter(([own]) => own !== "")
    .map(([own, other]) => [own!, other ?? own!]);
}

/** As many lines as there were. */
function withLines(made: string, before: string): string {
  const missing = before.split("\n").length - made.split("\n").length;
  return made + "\n".repeat(Math.max(0, missing));
}
