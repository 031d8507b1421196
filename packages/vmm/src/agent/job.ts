/** A command as the script that the guest's shell runs. */

import { VmmError } from "../errors.ts";

export interface CommandOptions {
  /** Where it runs in the guest. Default: root's home. */
  readonly cwd?: string;
  /** Added to the guest's environment. */
  readonly env?: Readonly<Record<string, string>>;
}

/** Linux takes at most 128 KiB for one argument and a few MiB for all; the agent holds a job in a shell's variable. */
const LARGEST_SCRIPT_BYTES = 2 ** 20;

/** The script that becomes this command. What no shell could hand on is refused. */
export function jobScript(command: readonly string[], { cwd = "/root", env = {} }: CommandOptions = {}): Buffer {
  if (command.length === 0 || command[0] === "") throw new VmmError("VMM_CONFIG", "a command needs a program's name");
  const lines = [`cd ${quoted(cwd)} || exit 126`];
  for (const [name, value] of Object.entries(env)) {
    if (!/^[A-Za-z_]\w*$/.test(name)) {
      throw new VmmError("VMM_CONFIG", `${JSON.stringify(name)} is no name of an environment variable`);
    }
    lines.push(`export ${name}=${quoted(value)}`);
  }
  lines.push(`exec ${command.map(quoted).join(" ")}`);
  const script = Buffer.from(`${lines.join("\n")}\n`);
  if (script.length > LARGEST_SCRIPT_BYTES) {
    throw new VmmError(
      "VMM_CONFIG",
      `a command of ${script.length} bytes; at most ${LARGEST_SCRIPT_BYTES} can be passed`,
    );
  }
  return script;
}

function quoted(text: string): string {
  if (text.includes("\0"))
    throw new VmmError("VMM_CONFIG", `${JSON.stringify(text)} holds a NUL, which no argument can`);
  return `'${text.replaceAll("'", "'\\''")}'`;
}
