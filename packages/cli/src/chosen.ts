/** Loading no more commands than are asked for. */

/** The command of this name; all of them when it is none of theirs: help, or a slip, for which others are suggested. */
export function chosen<Make>(commands: Readonly<Record<string, Make>>, name: string | undefined): Make[] {
  return name !== undefined && Object.hasOwn(commands, name) ? [commands[name]!] : Object.values(commands);
}
