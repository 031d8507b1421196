/** Pieces of guests that several cases on interrupts begin with. */

import type { Context } from "../context.ts";
import { IOAPIC, LAPIC, Port } from "../layout.ts";
import type { Machine } from "../machine.ts";

/** Registers of the local APIC, as offsets (Intel SDM vol. 3, table 11-1). */
export const Apic = {
  TPR: 0x80,
  EOI: 0xb0,
  SPURIOUS: 0xf0,
  ISR: 0x100,
  IRR: 0x200,
  ICR_LOW: 0x300,
  ICR_HIGH: 0x310,
  LVT_TIMER: 0x320,
  TIMER_COUNT: 0x380,
  TIMER_DIVIDE: 0x3e0,
} as const;

/** Switches the local APIC on (long mode). Its base stays in rbp, the IOAPIC's in r12. */
export const ENABLE_APIC = `
        mov ebp, ${LAPIC}
        mov r12d, ${IOAPIC}
        mov dword ptr [rbp + ${Apic.SPURIOUS}], 0x1ff`;

/** A handler that tells its number on Port.VALUE, ends the interrupt at the local APIC and returns. Uses rax. */
export const apicHandler = (label: string, number: number) => `
      ${label}:
        mov eax, ${number}
        mov dx, ${Port.VALUE}
        out dx, al
        mov dword ptr [rbp + ${Apic.EOI}], 0
        iretq`;

/** Writes the lower half of an IOAPIC entry; its upper half (the destination, APIC 0) stays zero. */
export const setIoapicPin = (pin: number, low: number) => `
        mov dword ptr [r12], ${0x10 + 2 * pin}
        mov dword ptr [r12 + 0x10], ${low}`;

/** Bits of an IOAPIC entry (82093AA datasheet, 3.2.4), next to the vector. */
export const Pin = { LEVEL: 1 << 15, REMOTE_IRR: 1 << 14, MASKED: 1 << 16 } as const;

/**
 * For cases on the end of an interrupt, in its handler: some hosts end it as they deliver it, and nothing that hangs on
 * the guest's EOI can be seen there.
 */
export function mustBeInService(t: Context, m: Machine, vector: number): void {
  const registers = new DataView(m.vcpu.getLapic().buffer);
  const bits = registers.getUint32(Apic.ISR + (vector >> 5) * 16, true);
  t.excuse(
    ((bits >> (vector & 31)) & 1) === 0,
    "interprets",
    "ends an interrupt as it delivers it: the APIC's ISR stays empty",
  );
}

/** Tells the case that the guest is at this point. */
export const tell = (port: number) => `
        mov dx, ${port}
        out dx, al`;

/** Sets both PICs up with vectors 0x20 to 0x2f and these lines open (8259A datasheet). */
export const setPics = (masterMask: number, slaveMask = 0xff) =>
  [
    [0x20, 0x11],
    [0x21, 0x20],
    [0x21, 0x04],
    [0x21, 0x01],
    [0x21, masterMask],
    [0xa0, 0x11],
    [0xa1, 0x28],
    [0xa1, 0x02],
    [0xa1, 0x01],
    [0xa1, slaveMask],
  ]
    .map(([port, value]) => `mov al, ${value}\n out ${port}, al\n`)
    .join("");
