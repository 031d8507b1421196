/** Stopping a vCPU from outside: `Kicker` of the interface; KVM_RUN's EINTR and `immediate_exit` (api.rst section 5). */

import { ExitReason } from "../../src/index.ts";
import type { Group, Host } from "../case.ts";
import { equal, ok } from "../check.ts";
import type { Context } from "../context.ts";
import { long, real, user } from "../guest.ts";
import { Port } from "../layout.ts";
import type { RunOptions } from "../thread.ts";
import type { VcpuThread } from "../vcpu-thread.ts";

const READY = 0x50;

/** How many kicks a guest must survive: the full number, and at least so many where that takes longer than the budget. */
const MANY = 100_000;
const FEW = 500;
const BUDGET_MS = 10_000;

export const kick: Group = {
  name: "kick",
  cases: [
    {
      name: "a kick before the run makes it return at once, the guest untouched; the next run goes on",
      guest: real`
        inc bx
        hlt`,
      run(t) {
        const m = t.machine();
        const kicker = t.hypervisor.attachKicker(m.vcpu.kickHandle);
        ok(kicker.kick(), "the vCPU is open");
        equal(m.vcpu.run(), ExitReason.INTR, "the first run's exit");
        equal(m.vcpu.getRegs().rbx, 0n, "nothing ran");
        m.expect(ExitReason.HLT);
        equal(m.vcpu.getRegs().rbx, 1n, "then it ran");
      },
    },
    {
      name: "immediateExit makes the next run return at once",
      guest: real`hlt`,
      run(t) {
        const m = t.machine();
        m.vcpu.page.immediateExit = true;
        equal(m.vcpu.run(), ExitReason.INTR, "the exit");
        equal(m.vcpu.page.immediateExit, false, "the flag is taken back");
        m.expect(ExitReason.HLT);
      },
    },
    {
      name: "several kicks may merge; none is left over when the vCPU has returned",
      guest: real`
        hlt
        hlt`,
      run(t) {
        const m = t.machine();
        const kicker = t.hypervisor.attachKicker(m.vcpu.kickHandle);
        for (let times = 0; times < 10; times++) kicker.kick();
        equal(m.vcpu.run(), ExitReason.INTR, "the first exit");
        equal(m.vcpu.run(), ExitReason.HLT, "the second");
        equal(m.vcpu.run(), ExitReason.HLT, "the third");
      },
    },
    {
      name: "a kick stops a tight loop, in ring 0 and in ring 3",
      guest: long`
        out ${READY}, al
        jmp .`,
      guests: {
        user: user`
        mov rdi, 0xd0000000
        mov [rdi], al
        jmp .`,
      },
      async run(t) {
        for (const guest of [undefined, "user"]) {
          const m = t.machine({ vcpus: 0, ...(guest === undefined ? {} : { guest }) });
          const ready = t.notifier();
          if (guest === undefined) m.vm.assignIoeventfd(ready, { bus: "pio", address: READY, length: 1 });
          else m.vm.assignIoeventfd(ready, { bus: "mmio", address: 0xd0000000, length: 1 });
          const rang = t.rings(ready);
          const vcpu = await t.thread(m, { id: 0, ...(guest === undefined ? {} : { guest }) });
          const stopped = vcpu.run({ untilKick: true });
          await rang;
          vcpu.kicker.kick();
          equal(await stopped, { reason: ExitReason.INTR }, "the exit");
        }
      },
    },
    {
      name: "a kick wakes a guest that sleeps in the hypervisor",
      guest: long`
        out ${READY}, al
        hlt
        jmp .`,
      async run(t) {
        const m = t.machine({ irqchip: "kernel", vcpus: 0 });
        const ready = t.notifier();
        m.vm.assignIoeventfd(ready, { bus: "pio", address: READY, length: 1 });
        const rang = t.rings(ready);
        const vcpu = await t.thread(m, { id: 0 });
        const stopped = vcpu.run({ untilKick: true });
        await rang;
        vcpu.kicker.kick();
        equal(await stopped, { reason: ExitReason.INTR }, "the exit");
      },
    },
    {
      name: "many kicks into a tight loop: none is lost",
      limitMs: manyKicksMs,
      guest: long`jmp .`,
      async run(t) {
        const vcpu = await t.thread(t.machine({ vcpus: 0 }), { id: 0 });
        await kickOften(t, vcpu, {});
      },
    },
    {
      name: "many kicks into a guest that exits all the time: none is lost",
      limitMs: manyKicksMs,
      guest: long`
        mov dx, ${Port.VALUE}
      again:
        out dx, al
        jmp again`,
      async run(t) {
        const vcpu = await t.thread(t.machine({ vcpus: 0 }), { id: 0 });
        await kickOften(t, vcpu, { passOver: [Port.VALUE] });
        ok(vcpu.passed > 0, "the guest exited meanwhile");
      },
    },
    {
      name: "many kicks into a sleeping guest: none is lost",
      limitMs: manyKicksMs,
      guest: long`
      again:
        hlt
        jmp again`,
      async run(t) {
        const vcpu = await t.thread(t.machine({ irqchip: "kernel", vcpus: 0 }), { id: 0 });
        await kickOften(t, vcpu, {});
      },
    },
    {
      name: "a kick of a closed vCPU returns false",
      guest: real`hlt`,
      run(t) {
        const m = t.machine({ vcpus: 0 });
        const vcpu = m.vm.createVcpu(0);
        const kicker = t.hypervisor.attachKicker(vcpu.kickHandle);
        equal(kicker.kick(), true, "while it is open");
        vcpu.close();
        equal(kicker.kick(), false, "once it is closed");
      },
    },
  ],
};

/** In the lab on a busy host, a hundred thousand kicks take half an hour. */
function manyKicksMs(host: Host): number | undefined {
  return host.thorough ? 60 * 60_000 : undefined;
}

/**
 * Each kick must be seen by the vCPU's thread before the next one goes out. On a slow host the number is bounded by
 * time, unless the run is a thorough one.
 */
async function kickOften(t: Context, vcpu: VcpuThread, options: RunOptions): Promise<void> {
  const stopped = vcpu.run(options);
  const start = performance.now();
  let number = 0;
  while (number < MANY && (t.host.thorough || number < FEW || performance.now() - start < BUDGET_MS)) {
    number += 1;
    vcpu.kickAndWait(number);
  }
  equal(vcpu.acknowledged, number, "the last kick that was seen");
  vcpu.stop();
  equal(await stopped, { reason: ExitReason.INTR }, "the exit");
}
