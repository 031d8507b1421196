/** Time in the guest: kvmclock, KVM_GET_CLOCK and KVM_SET_CLOCK (api.rst 4.29 and 4.30), and the TSC. */

import { Capability, ClockFlag, ExitReason } from "../../src/index.ts";
import { type Group, needs } from "../case.ts";
import { equal, ok } from "../check.ts";
import { long, user } from "../guest.ts";
import { DATA, MMIO } from "../layout.ts";
import type { Machine } from "../machine.ts";

const MSR_TSC = 0x10;
/** KVM's paravirtual MSR for the guest's clock page (Documentation/virt/kvm/x86/msr.rst). */
const MSR_SYSTEM_TIME = 0x4b564d01;

/** `struct pvclock_vcpu_time_info` at DATA. */
const Page = { VERSION: 0, TSC: 8, SYSTEM_TIME: 16, MUL: 24, SHIFT: 28, FLAGS: 29 } as const;
const FLAG_STOPPED = 2;

/** Switches kvmclock on, then reads the TSC at each round. */
const reader = long`
        mov ecx, ${MSR_SYSTEM_TIME}
        mov eax, ${DATA | 1}
        xor edx, edx
        wrmsr
      again:
        rdtsc
        shl rdx, 32
        or rax, rdx
        hlt
        jmp again`;

const ONE_SECOND = 1_000_000_000n;

export const clock: Group = {
  name: "clock",
  cases: [
    {
      name: "the guest's clock goes on, and is what it is set to",
      unsupported: needs(Capability.ADJUST_CLOCK),
      guest: reader,
      run(t) {
        const { vm } = t.machine();
        const first = vm.getClock().clock;
        const second = vm.getClock().clock;
        ok(second >= first, `${second} is not before ${first}`);
        const hours = 3600n * ONE_SECOND;
        vm.setClock({ ...vm.getClock(), clock: hours, flags: 0 });
        const third = vm.getClock().clock;
        ok(third >= hours && third < 2n * hours, `${third} is at or shortly after ${hours}`);
      },
    },
    {
      name: "the clock's record tells the host's time that belongs to it, where the host can",
      unsupported: needs(Capability.ADJUST_CLOCK),
      guest: reader,
      run(t) {
        const { vm } = t.machine();
        const { flags, realtime, hostTsc } = vm.getClock();
        if ((flags & ClockFlag.REALTIME) === 0) t.skip("this host's clock record has no wall time");
        const now = BigInt(Date.now()) * 1_000_000n;
        const difference = now - realtime;
        // A day's worth of difference would be another epoch or another unit.
        ok(difference > -86400n * ONE_SECOND && difference < 86400n * ONE_SECOND, `wall time ${realtime}, now ${now}`);
        if (flags & ClockFlag.HOST_TSC) ok(hostTsc > 0n, "the host's TSC");
      },
    },
    {
      name: "kvmclock: the guest's page holds a time that fits the monitor's clock",
      unsupported: needs(Capability.CLOCKSOURCE),
      guest: reader,
      run(t) {
        const m = t.machine();
        const before = m.vm.getClock().clock;
        const time = guestTime(m);
        const after = m.vm.getClock().clock;
        // The page and the request may round differently.
        const slack = 1_000_000n;
        ok(time >= before - slack && time <= after + slack, `${before} <= ${time} <= ${after}`);
        equal(m.u32(DATA + Page.VERSION) % 2, 0, "the version is even when nobody writes the page");
      },
    },
    {
      // Pause: take the clock down, let time pass, set it to what it was. For the guest nothing has happened.
      name: "kvmclock: no jump across a pause, neither back nor ahead",
      unsupported: needs(Capability.CLOCKSOURCE, Capability.ADJUST_CLOCK),
      guest: reader,
      run(t) {
        const m = t.machine();
        const before = guestTime(m);
        const stopped = m.vm.getClock();
        const slept = letTimePass(m, 20_000_000n);
        m.vm.setClock({ ...stopped, flags: 0 });
        const resumed = performance.now();
        const after = guestTime(m);
        const ran = BigInt(Math.ceil((performance.now() - resumed) * 1e6));
        ok(after >= before, `the time after the pause (${after}) is before that at its start (${before})`);
        const slack = 1_000_000n;
        ok(
          after <= stopped.clock + ran + slack,
          `${after - stopped.clock} ns passed; at most ${ran} did (slept ${slept})`,
        );
      },
    },
    {
      // KVM_KVMCLOCK_CTRL (4.76): so that the guest's watchdogs forgive the gap.
      name: "kvmclock: a guest that uses it is told of a pause; one that does not is not there to be told",
      unsupported: needs(Capability.KVMCLOCK_CTRL),
      guest: reader,
      run(t) {
        const m = t.machine();
        equal(m.vcpu.notifyPaused(), false, "before the guest switches its clock on");
        guestTime(m);
        equal(m.u8(DATA + Page.FLAGS) & FLAG_STOPPED, 0, "the mark before");
        equal(m.vcpu.notifyPaused(), true, "now that it has a clock");
        guestTime(m);
        equal(m.u8(DATA + Page.FLAGS) & FLAG_STOPPED, FLAG_STOPPED, "the mark that the guest finds");
      },
    },
    {
      name: "a vCPU's TSC keeps the frequency that it is given, which may always be its own",
      unsupported: needs(Capability.GET_TSC_KHZ),
      guest: reader,
      run(t) {
        const m = t.machine();
        const khz = m.vcpu.getTscKhz();
        m.vcpu.setTscKhz(khz);
        equal(m.vcpu.getTscKhz(), khz, "the frequency");
        if (t.hypervisor.checkExtension(Capability.TSC_CONTROL) === 0) return;
        const half = Math.floor(khz / 2);
        m.vcpu.setTscKhz(half);
        equal(m.vcpu.getTscKhz(), half, "half of it");
      },
    },
    {
      name: "the TSC goes on with its frequency, and is what it is set to",
      unsupported: needs(Capability.GET_TSC_KHZ),
      guest: reader,
      run(t) {
        const m = t.machine();
        const khz = m.vcpu.getTscKhz();
        ok(khz > 100_000 && khz < 20_000_000, `${khz} kHz is a processor's frequency`);
        m.vcpu.setMsrs([{ index: MSR_TSC, data: 1n << 40n }]);
        m.expect(ExitReason.HLT);
        const first = m.vcpu.getRegs().rax;
        m.expect(ExitReason.HLT);
        const second = m.vcpu.getRegs().rax;
        const minute = BigInt(khz) * 1000n * 60n;
        const near = first >= 1n << 40n && first < (1n << 40n) + minute;
        t.excuse(!near, "interprets", "shows its own TSC to the guest, whatever it was set to");
        ok(near, `${first} is shortly after ${1n << 40n}`);
        ok(second > first, `${second} is after ${first}`);
      },
    },
    {
      name: "ring 3 reads the same TSC",
      guest: user`
        mov rdi, ${MMIO}
        rdtsc
        shl rdx, 32
        or rax, rdx
        mov [rdi], rax
        jmp .`,
      run(t) {
        const m = t.machine();
        m.vcpu.setMsrs([{ index: MSR_TSC, data: 1n << 50n }]);
        const exit = m.exit();
        const value = exit.reason === ExitReason.MMIO ? exit.value : 0n;
        const day = BigInt(m.vcpu.getTscKhz()) * 1000n * 86400n;
        const near = value >= 1n << 50n && value < (1n << 50n) + day;
        t.excuse(!near, "interprets", "shows its own TSC to ring 3");
        ok(near, `${value} is shortly after ${1n << 50n}`);
      },
    },
  ],
};

/** What the guest makes of its clock page (msr.rst), now. */
function guestTime(m: Machine): bigint {
  m.expect(ExitReason.HLT);
  ok(m.u32(DATA + Page.MUL) !== 0, "the guest has a clock page");
  const tsc = m.vcpu.getRegs().rax;
  const shift = BigInt(m.view.getInt8(DATA + Page.SHIFT));
  const passed = tsc - m.u64(DATA + Page.TSC);
  const scaled = shift >= 0n ? passed << shift : passed >> -shift;
  return m.u64(DATA + Page.SYSTEM_TIME) + ((scaled * BigInt(m.u32(DATA + Page.MUL))) >> 32n);
}

/** Until the machine's clock has gone on by so much. */
function letTimePass(m: Machine, ns: bigint): bigint {
  const start = m.vm.getClock().clock;
  for (;;) {
    const passed = m.vm.getClock().clock - start;
    if (passed >= ns) return passed;
  }
}
