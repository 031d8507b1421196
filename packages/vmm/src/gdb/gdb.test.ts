/** GDB itself, attached to a machine. */

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { on, once } from "node:events";
import { existsSync, mkdtempDisposableSync, readFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { Pc } from "@lodge/machine";
import { assemble } from "../../testing/kernel.ts";
import { MachineTarget } from "./machine-target.ts";
import { packet } from "./packets.ts";
import { serveGdb } from "./server.ts";

const missing = ["gdb", "gcc"].find((program) => spawnSync(program, ["--version"]).error !== undefined);
const noKvm = existsSync("/dev/kvm") ? false : "this host has no /dev/kvm";
const skip = missing === undefined ? false : `${missing} is not installed`;

/** Counts in rax and in memory, for ever. */
const COUNTER = `
.globl _start
_start:
        xor %eax, %eax
loop:   inc %rax
store:  mov %rax, counter
again:  jmp loop
.data
.align 8
counter: .quad 0
other:  .quad 0
`;

async function gdb(kernel: string, port: number, ...commands: string[]): Promise<string> {
  const args = ["-nx", "-batch", kernel, "-ex", "set pagination off", "-ex", `target remote 127.0.0.1:${port}`];
  const child = spawn("gdb", [...args, ...commands.flatMap((command) => ["-ex", command])], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const [out, err] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return out + err;
}

/** What was said behind `echo \\n--name\\n`, up to the next such. */
const sectionOf = (said: string, name: string) => said.split(`--${name}\n`)[1]?.split("\n--")[0] ?? said;

/** {@link COUNTER} in a machine, and a server for GDB. */
async function debugging(accelerator: "soft" | "kvm", count: number) {
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(mkdtempDisposableSync(join(tmpdir(), "lodge-gdb-")));
  const kernel = assemble(COUNTER, directory.path, "counter");
  let target: MachineTarget | undefined;
  const machine = undo.use(
    await Pc.create(
      { accelerator, memoryBytes: 16 * 2 ** 20, cpus: { count }, kernel: readFileSync(kernel) },
      { debugged: (exit) => target!.debugged(exit) },
    ),
  );
  target = new MachineTarget(machine);
  const server = undo.use(await serveGdb(target, 0));
  machine.start();
  const resources = undo.move();
  return { kernel, machine, server, [Symbol.asyncDispose]: () => resources.disposeAsync() };
}

test("breakpoints, steps, registers, memory and threads", { skip }, async () => {
  await using counting = await debugging("soft", 2);
  const { kernel, machine, server } = counting;
  const said = await gdb(
    kernel,
    server.port,
    "echo \\n--threads\\n",
    "info threads",
    "echo \\n--software breakpoint\\n",
    "break store",
    "continue",
    "delete",
    "echo \\n--set\\n",
    "set $rax = 0x1234",
    "set $xmm3.v4_int32[1] = 77",
    "stepi",
    "x/i $pc",
    "x/gx &counter",
    "print $xmm3.v4_int32",
    "print $mxcsr",
    "echo \\n--written\\n",
    "set {long}&other = 0x1122334455667788",
    "x/gx &other",
    "x/gx 0x7f0000000000",
    "echo \\n--hardware breakpoint\\n",
    "hbreak loop",
    "continue",
    "print/x $rax",
    "delete",
    "echo \\n--watch\\n",
    "watch *(long *)&counter",
    "continue",
    "delete",
    "echo \\n--detach\\n",
    "detach",
  );
  const section = (name: string) => sectionOf(said, name);
  assert.match(section("threads"), /\* 1 .*vCPU 0.*\n +2 .*vCPU 1/);
  assert.match(section("software breakpoint"), /Breakpoint 1, 0x\w+ in store/);
  assert.match(section("set"), /=> 0x\w+ <again>:\s+jmp\s+0x\w+ <loop>/);
  assert.match(section("set"), /0x\w+:\s+0x0000000000001234/);
  assert.match(section("set"), /\{0, 77, 0, 0\}/);
  assert.match(section("set"), /\[ IM DM ZM OM UM PM \]|8064/);
  assert.match(section("written"), /0x\w+:\s+0x1122334455667788/);
  // On stderr, which comes behind all of it.
  assert.match(said, /Cannot access memory at address 0x7f0000000000/);
  assert.match(section("hardware breakpoint"), /Breakpoint 2, 0x\w+ in loop/);
  assert.match(section("hardware breakpoint"), /= 0x1234/);
  assert.match(section("watch"), /Old value = 4660\nNew value = 4661/);
  assert.match(section("detach"), /detached/);
  assert.equal(machine.state, "running");
});

/**
 * Without software breakpoints and watchpoints: a /dev/kvm that interprets guest kernels, as in a virtual machine, emulates no
 * int3 and looks for no breakpoints on data.
 */
test("steps, hardware breakpoints, registers, memory and threads on KVM", { skip: skip || noKvm }, async () => {
  await using counting = await debugging("kvm", 2);
  const { kernel, machine, server } = counting;
  const said = await gdb(
    kernel,
    server.port,
    "echo \\n--threads\\n",
    "info threads",
    "echo \\n--hardware breakpoint\\n",
    "hbreak store",
    "continue",
    "delete",
    "echo \\n--set\\n",
    "set $rax = 0x1234",
    "set $xmm3.v4_int32[1] = 77",
    "stepi",
    "x/i $pc",
    "x/gx &counter",
    "print $xmm3.v4_int32",
    "echo \\n--written\\n",
    "set {long}&other = 0x1122334455667788",
    "x/gx &other",
    "echo \\n--again\\n",
    "hbreak loop",
    "continue",
    "print/x $rax",
    "delete",
    "echo \\n--detach\\n",
    "detach",
  );
  const section = (name: string) => sectionOf(said, name);
  assert.match(section("threads"), /\* 1 .*vCPU 0.*\n +2 .*vCPU 1/);
  assert.match(section("hardware breakpoint"), /Breakpoint 1, 0x\w+ in store/);
  assert.match(section("set"), /=> 0x\w+ <again>:\s+jmp\s+0x\w+ <loop>/);
  assert.match(section("set"), /0x\w+:\s+0x0000000000001234/);
  assert.match(section("set"), /\{0, 77, 0, 0\}/);
  assert.match(section("written"), /0x\w+:\s+0x1122334455667788/);
  assert.match(section("again"), /Breakpoint 2, 0x\w+ in loop/);
  assert.match(section("again"), /= 0x1234/);
  assert.match(section("detach"), /detached/);
  assert.equal(machine.state, "running");
});

test("a second debugger is turned away; one that vanishes leaves nothing behind", { skip }, async () => {
  await using counting = await debugging("soft", 1);
  const { kernel, machine, server } = counting;
  const first = connect(server.port, "127.0.0.1");
  const loop = 0x100002;
  first.write(packet(`Z0,${loop.toString(16)},1`));
  let answer = "";
  for await (const [bytes] of on(first, "data")) {
    answer += bytes;
    if (answer.includes("#")) break;
  }
  assert.equal(answer, `+${packet("OK")}`.slice(0, answer.length));
  const [breakpoint] = machine.debugging.ram.slice(loop, 1)!;
  assert.equal(breakpoint, 0xcc);
  const other = connect(server.port, "127.0.0.1");
  await once(other.resume(), "close");
  first.destroy();
  const second = await gdb(kernel, server.port, "x/2i loop", "detach");
  assert.match(second, /<loop>:\s+inc\s+%rax/);
});
