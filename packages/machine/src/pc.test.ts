/** Whole machines with kernels of a few instructions, on each accelerator. */

import assert from "node:assert/strict";
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { type DriverLink, type GuestRam, PmemDevice, RngDevice } from "@lodge/devices";
import { addressOf, getAffinity, gettid } from "@lodge/linux";
import { accelerators } from "../testing/accelerators.ts";
import { elf64 } from "../testing/elf.ts";
import { echo, HALT, out, SPIN, say } from "../testing/programs.ts";
import { type ByteSink, Pc, type PcDescription } from "./index.ts";

const COM1 = 0x3f8;
const DEBUG_EXIT = 0xf4;

function word(value: number): number[] {
  return [...new Uint8Array(Uint32Array.of(value).buffer)];
}

function collector(): { sink: ByteSink; text: () => string } {
  const parts: Uint8Array[] = [];
  return { sink: (bytes) => parts.push(bytes), text: () => Buffer.concat(parts).toString() };
}

for (const { kind, skip } of await accelerators()) {
  const describe = (code: number[], rest: Partial<PcDescription> = {}): PcDescription => ({
    accelerator: kind,
    memoryBytes: 16 * 2 ** 20,
    cpus: { count: 1 },
    kernel: elf64(Uint8Array.from(code)),
    debugExitPort: DEBUG_EXIT,
    ...rest,
  });
  const ended = async (code: number[], rest: Partial<PcDescription> = {}) => {
    await using machine = await Pc.create(describe(code, rest));
    machine.start();
    return await machine.ended;
  };

  test(`${kind}: a kernel speaks on the serial port and ends with a status`, { skip }, async () => {
    const com1 = collector();
    const end = await ended([...say(COM1, "hello\n"), ...out(DEBUG_EXIT, 5)], { serial: [com1.sink] });
    assert.deepEqual(end, { reason: "debug-exit", status: 11 });
    assert.equal(com1.text(), "hello\n");
  });

  test(`${kind}: reset and power-off, each by its ports`, { skip }, async () => {
    assert.deepEqual(await ended(out(0x64, 0xfe)), { reason: "reset" });
    assert.deepEqual(await ended(out(0xcf9, 6)), { reason: "reset" });
    // SLP_EN and SLP_TYP 5, in the upper half of PM1's control register.
    assert.deepEqual(await ended(out(0x605, 0x34)), { reason: "power-off" });
    // lidt of an empty table, then an exception: a triple fault.
    assert.deepEqual(await ended([0x31, 0xc0, 0x50, 0x50, 0x0f, 0x01, 0x1c, 0x24, 0x0f, 0x0b]), { reason: "reset" });
  });

  test(`${kind}: what is typed reaches the guest; the debug console and the panic device speak`, { skip }, async () => {
    const com1 = collector();
    const debug = collector();
    const echoed = Array.from({ length: 5 }, () => echo(COM1 + 5, 1, COM1, COM1)).flat();
    const code = [...say(0xe9, "ready"), ...echoed, ...out(0x505, 1), ...out(DEBUG_EXIT, 0)];
    const panics: boolean[] = [];
    await using machine = await Pc.create(describe(code, { serial: [com1.sink], debugConsole: debug.sink }), {
      panicked: (crashLoaded) => panics.push(crashLoaded),
    });
    machine.start();
    machine.serial[0]!.write("typed");
    assert.deepEqual(await machine.ended, { reason: "debug-exit", status: 1 });
    assert.deepEqual([com1.text(), debug.text(), panics], ["typed", "ready", [false]]);
  });

  test(`${kind}: a machine is paused, looked at, resumed and stopped, running or halted`, { skip }, async () => {
    for (const code of [SPIN, HALT]) {
      await using machine = await Pc.create(describe(code));
      machine.start();
      await machine.pause();
      assert.equal(machine.state, "paused");
      const [first] = await machine.registers();
      const rip = first!.regs.rip;
      assert.ok(rip >= 0x100000n && rip < 0x100000n + 8n, `rip is 0x${rip.toString(16)}`);
      machine.resume();
      await assert.rejects(machine.registers(), { code: "MACHINE_STATE" });
      await machine.stop();
      assert.deepEqual(await machine.ended, { reason: "stopped" });
    }
  });

  test(`${kind}: the reset button ends a machine, paused or not, and its memory is the host's again`, {
    skip,
  }, async () => {
    for (const paused of [false, true]) {
      const machine = await Pc.create(describe(SPIN));
      const code = machine.debugging.ram.slice(0x100000, SPIN.length)!;
      machine.start();
      if (paused) await machine.pause();
      machine.reset();
      assert.deepEqual(await machine.ended, { reason: "reset" });
      assert.deepEqual([...code], SPIN);
      await machine.stop();
      assert.deepEqual([...code], [0, 0]);
      await machine.stop();
    }
  });

  test(`${kind}: several vCPUs stop together`, { skip }, async () => {
    const description = describe([...say(COM1, "x"), ...out(DEBUG_EXIT, 1)], { cpus: { count: 3 } });
    await using machine = await Pc.create(description);
    machine.start();
    assert.deepEqual(await machine.ended, { reason: "debug-exit", status: 3 });
  });

  test(`${kind}: the 8254's interrupt is at the IOAPIC's pin 2, as ACPI says`, { skip }, async () => {
    // mov edi, address; mov [rdi], value
    const store = (address: number, value: number) => [0xbf, ...word(address), 0xc7, 0x07, ...word(value)];
    const ioapic = (register: number, value: number) => [...store(0xfec00000, register), ...store(0xfec00010, value)];
    const code = [
      // The local APIC is on; pin 2 leads to its vector 0x30; channel 0 ticks each 3 ms.
      ...[...store(0xfee000f0, 0x1ff), ...ioapic(0x15, 0), ...ioapic(0x14, 0x30)],
      ...[...out(0x43, 0x34), ...out(0x40, 0), ...out(0x40, 0x10)],
      // Of the requested interrupts the word with 0x30: mov edi, 0xfee00210; mov ecx, 1000000
      ...[0xbf, ...word(0xfee00210), 0xb9, ...word(1_000_000)],
      // again: test dword ptr [rdi], 0x10000; loopz again; setnz bl; mov al, bl
      ...[0xf7, 0x07, ...word(0x10000), 0xe1, 0xf8, 0x0f, 0x95, 0xc3],
      ...[...out(DEBUG_EXIT, 0).slice(2, 6), 0x88, 0xd8, 0xee],
    ];
    assert.deepEqual(await ended(code), { reason: "debug-exit", status: 3 });
  });

  test(`${kind}: eight vCPUs come up when the first one starts them`, { skip }, async () => {
    const quad = (bytes: number[]) => [...bytes, 0, 0, 0, 0, 0, 0, 0].slice(0, 8);
    // In real mode at 0x10000: mov ax, 0x1000; mov ds, ax; lock inc word ptr [0x100]; and HALT.
    const others = [0xb8, 0x00, 0x10, 0x8e, 0xd8, 0xf0, 0xff, 0x06, 0x00, 0x01, ...HALT];
    const code = [
      // mov rax, imm64; mov [0x10000], rax; and the rest behind it
      ...[0x48, 0xb8, ...others.slice(0, 8), 0x48, 0x89, 0x04, 0x25, ...word(0x10000)],
      ...[0x48, 0xb8, ...quad(others.slice(8)), 0x48, 0x89, 0x04, 0x25, ...word(0x10008)],
      // mov ebx, the local APIC's command; INIT, and twice a start at page 0x10, to all others (Intel SDM vol. 3, 9.4.4)
      ...[0xbb, ...word(0xfee00300), ...[0xc4500, 0xc4610, 0xc4610].flatMap((send) => [0xc7, 0x03, ...word(send)])],
      // wait: pause; cmp word ptr [0x10100], 7; jne wait
      ...[0xf3, 0x90, 0x66, 0x83, 0x3c, 0x25, ...word(0x10100), 7, 0x75, 0xf3],
      ...out(DEBUG_EXIT, 8),
    ];
    await using machine = await Pc.create(describe(code, { cpus: { count: 8 } }));
    machine.start();
    assert.deepEqual(await machine.ended, { reason: "debug-exit", status: 17 });
  });
}

test("CPUID is the model's", async () => {
  // mov eax, 1; cpuid; mov eax, ecx; shr eax, 28; mov dx, port; out dx, al: AVX in bit 0.
  const code = [0xb8, 1, 0, 0, 0, 0x0f, 0xa2, 0x89, 0xc8, 0xc1, 0xe8, 28, 0x66, 0xba, DEBUG_EXIT, 0, 0xee, ...HALT];
  for (const model of ["x86-64-v2", "pentium"]) {
    const ended = async () => {
      await using machine = await Pc.create({
        accelerator: "soft",
        memoryBytes: 16 * 2 ** 20,
        cpus: { count: 1, model },
        kernel: elf64(Uint8Array.from(code)),
        debugExitPort: DEBUG_EXIT,
      });
      machine.start();
      return await machine.ended;
    };
    if (model === "pentium") {
      await assert.rejects(ended, /pentium/);
      continue;
    }
    const end = await ended();
    assert.ok(end.reason === "debug-exit" && ((end.status >> 1) & 1) === 0, JSON.stringify(end));
  }
});

for (const { kind, skip } of await accelerators()) {
  for (const shared of [true, false]) {
    const whose = shared ? "the file's" : "the machine's alone";
    test(`${kind}: persistent memory is a file behind RAM; what is written there is ${whose}`, { skip }, async (t) => {
      const folder = mkdtempSync(join(tmpdir(), "lodge-pmem-"));
      t.after(() => rmSync(folder, { recursive: true }));
      const file = join(folder, "pmem");
      const sizeBytes = 2 * 2 ** 20;
      writeFileSync(file, Buffer.alloc(sizeBytes, "F"));
      const fd = openSync(file, shared ? "r+" : "r");
      t.after(() => closeSync(fd));
      const com1 = collector();
      const store = (at: number, value: number) => [0xc7, 0x04, 0x25, ...word(at), ...word(value)];
      await using machine = await Pc.create({
        accelerator: kind,
        memoryBytes: 16 * 2 ** 20,
        cpus: { count: 1 },
        kernel: elf64(
          Uint8Array.from([
            // The page directory pointers at 0xa000 get a fifth, to a directory whose first page is what lies at 4 GiB.
            ...[...store(0x30_0000, 0x83), ...store(0x30_0004, 1), ...store(0xa020, 0x30_0003), ...store(0xa024, 0)],
            // mov rsi, 0x100000010; mov al, [rsi]; mov dx, COM1; out dx, al; mov dword ptr [rsi], "kept"
            ...[0x48, 0xbe, 0x10, 0, 0, 0, 1, 0, 0, 0, 0x8a, 0x06, 0x66, 0xba, 0xf8, 0x03, 0xee],
            ...[0xc7, 0x06, ...Buffer.from("kept"), ...out(DEBUG_EXIT, 0)],
          ]),
        ),
        serial: [com1.sink],
        debugExitPort: DEBUG_EXIT,
        virtio: [new PmemDevice({ memory: { name: file, fd, sizeBytes, shared }, flush: async () => {} })],
      });
      machine.start();
      assert.equal((await machine.ended).reason, "debug-exit");
      assert.equal(com1.text(), "F");
      assert.equal(readFileSync(file).toString("latin1", 0x0f, 0x15), shared ? "FkeptF" : "FFFFFF");
    });
  }
}

test("memory in a file is the guest's, and the file's afterwards", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "lodge-memory-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "memory");
  // mov dword ptr [0x200000], "kept"
  const code = [0xc7, 0x04, 0x25, 0, 0, 0x20, 0, ...Buffer.from("kept"), ...out(DEBUG_EXIT, 0)];
  const memoryBytes = 16 * 2 ** 20;
  await using machine = await Pc.create({
    accelerator: "soft",
    memoryBytes,
    memoryBacking: { file },
    cpus: { count: 1 },
    kernel: elf64(Uint8Array.from(code)),
    debugExitPort: DEBUG_EXIT,
  });
  machine.start();
  assert.equal((await machine.ended).reason, "debug-exit");
  const content = readFileSync(file);
  assert.equal(content.length, memoryBytes);
  assert.equal(content.toString("latin1", 0x200000, 0x200004), "kept");
});

test("shared memory is the guest's in a file without a name, which devices have until the machine's end", async () => {
  let ram: GuestRam | undefined;
  class Curious extends RngDevice {
    override connect(link: DriverLink): void {
      super.connect(link);
      ram = link.ram;
    }
  }
  const code = [0xc7, 0x04, 0x25, 0, 0, 0x20, 0, ...Buffer.from("kept"), ...out(DEBUG_EXIT, 0)];
  const machine = await Pc.create({
    accelerator: "soft",
    memoryBytes: 16 * 2 ** 20,
    memoryBacking: { shared: true },
    cpus: { count: 1 },
    kernel: elf64(Uint8Array.from(code)),
    debugExitPort: DEBUG_EXIT,
    virtio: [new Curious()],
  });
  machine.start();
  await machine.ended;
  const { fd, pieces } = ram!.shared!;
  assert.deepEqual(pieces, [{ gpa: 0, sizeBytes: 16 * 2 ** 20, offset: 0 }]);
  const file = `/proc/self/fd/${fd}`;
  assert.match(readlinkSync(file), /memfd:lodge-memory/);
  assert.equal(readFileSync(file).toString("latin1", 0x200000, 0x200004), "kept");
  await machine.stop();
  assert.equal(existsSync(file) && readlinkSync(file).includes("lodge-memory"), false);
});

test("memory is mergeable and of huge pages where that is asked for, and vCPUs are pinned", async (t) => {
  const smaps = () => readFileSync("/proc/self/smaps", "latin1");
  if (!existsSync("/sys/kernel/mm/ksm") || !existsSync("/sys/kernel/mm/transparent_hugepage")) {
    t.skip("this host's kernel has no KSM or no transparent huge pages");
    return;
  }
  const host = getAffinity(gettid()).at(-1)!;
  await using machine = await Pc.create({
    accelerator: "soft",
    memoryBytes: 16 * 2 ** 20,
    memoryBacking: { hugePages: "transparent", mergeable: true },
    cpus: { count: 1, affinity: [[host]] },
    kernel: elf64(Uint8Array.from(SPIN)),
  });
  assert.match(smaps(), /^VmFlags:.* hg .*mg/m);
  machine.start();
  const threads = readdirSync("/proc/self/task").map((tid) => readFileSync(`/proc/self/task/${tid}/status`, "latin1"));
  assert.ok(threads.some((status) => status.includes(`Cpus_allowed_list:\t${host}\n`)));
});

const kvm = (await accelerators()).find(({ kind }) => kind === "kvm")!;

test("on KVM, RAM begins at a huge page and is of such where the host has them", { skip: kvm.skip }, async (t) => {
  await using machine = await Pc.create({
    accelerator: "kvm",
    memoryBytes: 16 * 2 ** 20,
    cpus: { count: 1 },
    kernel: elf64(Uint8Array.from(HALT)),
  });
  const address = addressOf(machine.debugging.ram.slice(0, 1)!);
  assert.equal(address % (2 * 2 ** 20), 0);
  if (!existsSync("/sys/kernel/mm/transparent_hugepage"))
    return t.skip("this host's kernel has no transparent huge pages");
  const areas = readFileSync("/proc/self/smaps", "latin1").split(/^(?=[0-9a-f]+-)/m);
  const area = areas.find((each) => each.startsWith(`${address.toString(16)}-`));
  assert.match(area ?? "", /^VmFlags:.* hg/m);
});

test("what cannot be is refused before anything is made", async () => {
  const good: PcDescription = {
    accelerator: "soft",
    memoryBytes: 32 * 2 ** 20,
    cpus: { count: 1 },
    kernel: elf64(Uint8Array.from(HALT)),
  };
  const refused: [Partial<PcDescription>, RegExp][] = [
    [{ memoryBytes: 1000 }, /1000 bytes of memory/],
    [{ cpus: { count: 0 } }, /0 vCPUs/],
    [{ cpus: { count: 4, topology: { sockets: 1, cores: 3, threads: 1 } } }, /are not 4 vCPUs/],
    [{ kernel: new Uint8Array() }, /empty file/],
    [{ kernel: new TextEncoder().encode("#!/bin/sh\nthis is no kernel at all") }, /begins with #!/],
    [{ kernel: elf64(Uint8Array.from(HALT), { address: 64 * 2 ** 20 }) }, /does not fit into the machine's memory/],
    [{ initrd: new Uint8Array(40 * 2 ** 20) }, /initrd .* does not fit/],
    [{ cpus: { count: 2, affinity: [[0]] } }, /host processors for 1 vCPUs/],
    [{ nodes: [{ cpus: [0], memoryBytes: 2 ** 20 }] }, /NUMA: the nodes have 1048576 bytes/],
    [{ nodes: [{ cpus: [], memoryBytes: 32 * 2 ** 20 }] }, /NUMA: the nodes have the vCPUs \(none\)/],
    [{ memoryBytes: 3 * 2 ** 30, memoryBacking: { hugePages: "2M" } }, /1536 huge pages of 2 MiB, and the host has/],
    [{ memoryBacking: { file: "/nonexistent/memory" } }, /the machine's memory: .*nonexistent/],
    [
      {
        virtio: [
          new PmemDevice({ memory: { name: "odd", fd: -1, sizeBytes: 4096, shared: true }, flush: async () => {} }),
        ],
      },
      /odd has 4096 bytes: persistent memory is a multiple of 2 MiB/,
    ],
    [
      {
        virtio: [
          new PmemDevice({ memory: { name: "odd", fd: -1, sizeBytes: 2 ** 21, shared: false }, flush: async () => {} }),
        ],
      },
      /persistent memory in odd: /,
    ],
    [{ commandLine: "x".repeat(100000) }, /command line/],
  ];
  for (const [part, message] of refused) {
    await assert.rejects(async () => {
      await using machine = await Pc.create({ ...good, ...part });
      assert.fail(machine.state);
    }, message);
  }
});
