/** Breakpoints and single steps of the monitor: KVM_SET_GUEST_DEBUG (api.rst 4.87) and KVM_EXIT_DEBUG (section 5). */

import { Capability, ExitReason, type GuestDebug, GuestDebugControl } from "../../src/index.ts";
import { type Group, needs } from "../case.ts";
import { equal } from "../check.ts";
import type { Context } from "../context.ts";
import type { Exit } from "../exit.ts";
import { long, real, user } from "../guest.ts";
import { DATA, MMIO } from "../layout.ts";
import type { Machine } from "../machine.ts";

const { ENABLE, SINGLESTEP, USE_SW_BP, USE_HW_BP } = GuestDebugControl;
/** Exception vectors, as the exit tells them. */
const DB = 1;
const BP = 3;
/** DR6's bits (Intel SDM vol. 3, 17.2.3). */
const SINGLE_STEP = 1n << 14n;
/** DR7: breakpoint 0 is enabled; on writes; of 4 bytes (17.2.4). */
const ENABLE_0 = 1n << 1n;
const ON_WRITE_0 = 1n << 16n;
const BYTES_4_0 = 3n << 18n;
const NO_BREAKPOINTS = "does not load a guest's breakpoints";

export const debug: Group = {
  name: "debug",
  cases: [
    {
      name: "single-step exits behind each instruction",
      unsupported: needs(Capability.SET_GUEST_DEBUG),
      guest: long`
        mov eax, 1
      one:
        add eax, 2
      two:
        jmp four
      three:
        nop
      four:
        push rax
      five:
        hlt`,
      run(t) {
        const m = t.machine();
        m.vcpu.setGuestDebug(control(ENABLE | SINGLESTEP));
        for (const label of ["one", "two", "four", "five"]) stopsAt(m, label, DB);
        equal(m.vcpu.getRegs().rax, 3n, "rax");
        m.vcpu.setGuestDebug(control(0));
        m.expect(ExitReason.HLT);
      },
    },
    {
      name: "single-step in real mode",
      unsupported: needs(Capability.SET_GUEST_DEBUG),
      guest: real`
        inc ax
      one:
        inc ax
      two:
        hlt`,
      run(t) {
        const m = t.machine();
        m.vcpu.setGuestDebug(control(ENABLE | SINGLESTEP));
        for (const label of ["one", "two"]) stopsAt(m, label, DB);
        equal(m.vcpu.getRegs().rax, 2n, "rax");
      },
    },
    {
      name: "single-step in ring 3, past the guest's own handler",
      unsupported: needs(Capability.SET_GUEST_DEBUG),
      guest: user`
        inc rax
      one:
        inc rax
      two:
        jmp .
      handler:
        hlt`,
      run(t) {
        const m = t.machine();
        m.handle(DB, "handler");
        m.vcpu.setGuestDebug(control(ENABLE | SINGLESTEP));
        for (const label of ["one", "two"]) {
          m.expect(ExitReason.DEBUG);
          const { pc } = m.vcpu.page.debug;
          const inHandler = pc === BigInt(m.at("handler") + 1);
          t.excuse(inHandler, "interprets", "gives the debugger's single steps in ring 3 to the guest as #DB");
          equal(pc, BigInt(m.at(label)), "where it stopped");
        }
      },
    },
    {
      name: "the exit of a single step says so in DR6, and the guest's flags do not show it",
      unsupported: needs(Capability.SET_GUEST_DEBUG),
      guest: long`
        nop
      one:
        pushfq
      two:
        hlt`,
      run(t) {
        const m = t.machine();
        m.vcpu.setGuestDebug(control(ENABLE | SINGLESTEP));
        stopsAt(m, "one", DB);
        equal(m.vcpu.page.debug.dr6 & SINGLE_STEP, SINGLE_STEP, "DR6.BS");
        stopsAt(m, "two", DB);
        m.vcpu.setGuestDebug(control(0));
        equal(m.vcpu.getRegs().rflags & 0x100n, 0n, "the trap flag once it is over");
      },
    },
    {
      name: "a software breakpoint exits at the int3, not behind it",
      unsupported: needs(Capability.SET_GUEST_DEBUG),
      guest: long`
        mov eax, 1
      here:
        int3
        mov eax, 2
        hlt`,
      run(t) {
        softwareBreakpoint(t, t.machine());
      },
    },
    {
      name: "a software breakpoint in ring 3",
      unsupported: needs(Capability.SET_GUEST_DEBUG),
      guest: user`
        mov eax, 1
      here:
        int3
        mov eax, 2
      after:
        hlt
      handler:
        hlt`,
      run(t) {
        const m = t.machine();
        m.handle(BP, "handler", 3);
        m.handle(13, "handler");
        softwareBreakpoint(t, m);
      },
    },
    {
      name: "a hardware breakpoint exits before the instruction at its address",
      unsupported: needs(Capability.SET_GUEST_DEBUG),
      guest: long`
        mov eax, 1
      here:
        mov eax, 2
        hlt`,
      run(t) {
        const m = t.machine();
        m.vcpu.setGuestDebug(control(ENABLE | USE_HW_BP, [BigInt(m.at("here"))], ENABLE_0));
        const exit = m.exit();
        t.excuse(exit.reason === ExitReason.HLT, "tcg", NO_BREAKPOINTS);
        stoppedAt(m, exit, "here", DB);
        equal(m.vcpu.page.debug.dr6 & 0xfn, 1n, "DR6 names breakpoint 0");
        equal(m.vcpu.getRegs().rax, 1n, "rax");
        m.vcpu.setGuestDebug(control(0));
        m.expect(ExitReason.HLT);
        equal(m.vcpu.getRegs().rax, 2n, "rax at the end");
      },
    },
    {
      name: "a hardware breakpoint on data exits behind the write; reads and neighbours do not",
      unsupported: needs(Capability.SET_GUEST_DEBUG),
      guest: long`
        mov eax, [${DATA}]
        mov dword ptr [${DATA + 4}], 1
        mov dword ptr [${DATA - 4}], 1
        mov dword ptr [${DATA}], 1
      behind:
        nop
        mov dword ptr [${DATA}], 2
        mov rdi, ${MMIO}
        mov [rdi], al`,
      run(t) {
        const m = t.machine();
        m.vcpu.setGuestDebug(control(ENABLE | USE_HW_BP, [BigInt(DATA)], ENABLE_0 | ON_WRITE_0 | BYTES_4_0));
        const exit = m.exit();
        t.excuse(exit.reason === ExitReason.MMIO, "interprets", "does not look for breakpoints on data");
        t.excuse(exit.reason === ExitReason.MMIO, "tcg", NO_BREAKPOINTS);
        stoppedAt(m, exit, "behind", DB);
        equal(m.vcpu.page.debug.dr6 & 0xfn, 1n, "DR6 names breakpoint 0");
        // The second write is nobody's any more.
        m.vcpu.setGuestDebug(control(0));
        m.expectWrite(MMIO, 0, 1);
      },
    },
    {
      name: "the guest's own debug registers are the guest's while the monitor uses breakpoints",
      unsupported: needs(Capability.SET_GUEST_DEBUG),
      guest: long`
        mov rax, 0x123000
        mov dr0, rax
        mov rbx, dr0
      here:
        hlt`,
      run(t) {
        const m = t.machine();
        m.vcpu.setGuestDebug(control(ENABLE | USE_HW_BP, [BigInt(m.at("here"))], ENABLE_0));
        const exit = m.exit();
        t.excuse(exit.reason === ExitReason.HLT, "tcg", NO_BREAKPOINTS);
        stoppedAt(m, exit, "here", DB);
        equal(m.vcpu.getRegs().rbx, 0x123000n, "what the guest reads back");
        equal(m.vcpu.getDebugRegs().db[0], 0x123000n, "the guest's DR0");
      },
    },
    {
      name: "without USE_SW_BP the guest keeps its own int3",
      unsupported: needs(Capability.SET_GUEST_DEBUG),
      guest: user`
        int3
      behind:
        jmp .
      handler:
        pop rax
        hlt`,
      run(t) {
        const m = t.machine();
        m.handle(BP, "handler", 3);
        m.vcpu.setGuestDebug(control(ENABLE));
        m.expect(ExitReason.HLT);
        equal(m.vcpu.getRegs().rax, BigInt(m.at("behind")), "the rip that the handler finds");
      },
    },
  ],
};

/** `addresses` go to DR0 and up. */
function control(mask: number, addresses: readonly bigint[] = [], dr7 = 0n): GuestDebug {
  const debugreg = Array.from({ length: 8 }, (_, index) => addresses[index] ?? 0n);
  debugreg[7] = dr7;
  return { control: mask, debugreg };
}

/** The guest stops at `here` with 1 in rax; what is there is replaced by a nop, and it goes on to a hlt. */
function softwareBreakpoint(t: Context, m: Machine): void {
  m.vcpu.setGuestDebug(control(ENABLE | USE_SW_BP));
  const exit = m.exit();
  t.excuse(exit.reason === ExitReason.HLT, "interprets", "gives a debugger's int3 in ring 3 to the guest");
  const ignored = exit.reason === ExitReason.HLT || exit.reason === ExitReason.SHUTDOWN;
  t.excuse(ignored, "tcg", "does not hand int3 to the hypervisor");
  stoppedAt(m, exit, "here", BP);
  const { rax, rip } = m.vcpu.getRegs();
  equal({ rax, rip }, { rax: 1n, rip: BigInt(m.at("here")) }, "the registers at the breakpoint");
  m.bytes[m.at("here")] = 0x90;
  m.expect(ExitReason.HLT);
  equal(m.vcpu.getRegs().rax, 2n, "rax at the end");
}

/** The next exit is for the debugger, at this label. */
function stopsAt(m: Machine, label: string, exception: number): void {
  stoppedAt(m, m.exit(), label, exception);
}

function stoppedAt(m: Machine, exit: Exit, label: string, exception: number): void {
  equal(exit, { reason: ExitReason.DEBUG }, "the exit");
  const { pc } = m.vcpu.page.debug;
  equal({ exception: m.vcpu.page.debug.exception, pc }, { exception, pc: BigInt(m.at(label)) }, `the exit at ${label}`);
}
