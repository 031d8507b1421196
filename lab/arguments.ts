/** The lab's own options, which stand before the command; from the command's name on, nothing is ours. */

import { LabError } from "./errors.ts";

export const usage = `usage: node lab/main.ts [options] COMMAND [ARGUMENT...]

Runs COMMAND on a disposable Debian host (QEMU without KVM, real kvm-amd inside) that sees this one's files.

  --timeout SECONDS   end everything after that time (status 124)
  --cpus N            processors (2)
  --memory MIB        memory (4096)
  --env NAME=VALUE    a variable for the command
  --console           show what the kernel says
  --rebuild           fetch the newest kernel and build the lab anew
  --help
`;

export type Arguments = {
  command: string[];
  rebuild: boolean;
  help: boolean;
  console: boolean;
  timeoutMs?: number;
  cpus?: number;
  memoryMiB?: number;
  env: Record<string, string>;
};

function positive(name: string, value: string): number {
  const number = Number(value);
  if (!(number > 0) || !Number.isFinite(number)) throw new LabError("USAGE", `${name} needs a number: ${value}`);
  return number;
}

function whole(name: string, value: string): number {
  const number = positive(name, value);
  if (!Number.isInteger(number)) throw new LabError("USAGE", `${name} needs a whole number: ${value}`);
  return number;
}

export function parseOptions(args: readonly string[]): Arguments {
  const parsed: Arguments = { command: [], rebuild: false, help: false, console: false, env: {} };
  let index = 0;
  for (; index < args.length; index++) {
    const [name = "", ...rest] = (args[index] ?? "").split("=");
    if (!name.startsWith("--")) break;
    if (name === "--") {
      index++;
      break;
    }
    const value = () => {
      if (rest.length > 0) return rest.join("=");
      const next = args[++index];
      if (next === undefined) throw new LabError("USAGE", `${name} needs a value\n${usage}`);
      return next;
    };
    switch (name) {
      case "--timeout":
        parsed.timeoutMs = positive(name, value()) * 1000;
        break;
      case "--cpus":
        parsed.cpus = whole(name, value());
        break;
      case "--memory":
        parsed.memoryMiB = whole(name, value());
        break;
      case "--env": {
        const [variable = "", ...text] = value().split("=");
        if (text.length === 0) throw new LabError("USAGE", "--env needs NAME=VALUE");
        parsed.env[variable] = text.join("=");
        break;
      }
      case "--console":
        parsed.console = true;
        break;
      case "--rebuild":
        parsed.rebuild = true;
        break;
      case "--help":
        parsed.help = true;
        break;
      default:
        throw new LabError("USAGE", `unknown option ${name}\n${usage}`);
    }
  }
  parsed.command = args.slice(index);
  if (parsed.command.length === 0 && !parsed.rebuild && !parsed.help) {
    throw new LabError("USAGE", `no command given\n${usage}`);
  }
  return parsed;
}
