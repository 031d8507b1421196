/** Writes that do not stop the guest: KVM_IOEVENTFD (api.rst 4.59) and coalesced zones (4.116). */

import { Capability, COALESCED_RING_ENTRIES, ExitReason } from "../../src/index.ts";
import { type Group, needs } from "../case.ts";
import { equal, ok, refused } from "../check.ts";
import { long, protected32 } from "../guest.ts";
import { MMIO } from "../layout.ts";
import type { Machine } from "../machine.ts";

export const doorbells: Group = {
  name: "doorbells",
  cases: [
    {
      name: "pio: a write rings without an exit, one of another width or port exits",
      guest: protected32`
        mov eax, 0x7
        out 0x50, al
        out 0x50, al
        out 0x50, ax
        out 0x51, al
        hlt`,
      run(t) {
        const m = t.machine();
        const bell = t.notifier();
        m.vm.assignIoeventfd(bell, { bus: "pio", address: 0x50, length: 1 });
        m.expectOut(0x50, 7, 2);
        equal(bell.take(), 2, "how often it rang");
        m.expectOut(0x51, 7, 1);
        m.expect(ExitReason.HLT);
        equal(bell.take(), 0, "how often it rang after that");
      },
    },
    {
      name: "mmio: a write rings without an exit, a read exits",
      guest: long`
        mov rdi, ${MMIO}
        mov dword ptr [rdi], 1
        mov [rdi], rax
        mov eax, [rdi]
        hlt`,
      run(t) {
        const m = t.machine();
        const bell = t.notifier();
        m.vm.assignIoeventfd(bell, { bus: "mmio", address: MMIO, length: 4 });
        m.expectWrite(MMIO, 0, 8);
        equal(bell.take(), 1, "how often it rang");
        m.answerRead(MMIO, 0, 4);
        m.expect(ExitReason.HLT);
        equal(bell.take(), 0, "how often it rang after that");
      },
    },
    {
      name: "all widths have their doorbell",
      guest: long`
        mov rdi, ${MMIO}
        mov [rdi], al
        mov [rdi + 0x10], ax
        mov [rdi + 0x20], eax
        mov [rdi + 0x30], rax
        hlt`,
      run(t) {
        const m = t.machine();
        const bells = ([1, 2, 4, 8] as const).map((length, index) => {
          const bell = t.notifier();
          m.vm.assignIoeventfd(bell, { bus: "mmio", address: MMIO + index * 0x10, length });
          return bell;
        });
        m.expect(ExitReason.HLT);
        equal(
          bells.map((bell) => bell.take()),
          [1, 1, 1, 1],
          "how often each rang",
        );
      },
    },
    {
      name: "datamatch: only that value rings; several values of one address have a notifier each",
      guest: protected32`
        mov dx, 0x500
        mov ax, 1
        out dx, ax
        mov ax, 2
        out dx, ax
        out dx, ax
        mov ax, 3
        out dx, ax
        hlt`,
      run(t) {
        const m = t.machine();
        const one = t.notifier();
        const two = t.notifier();
        m.vm.assignIoeventfd(one, { bus: "pio", address: 0x500, length: 2, datamatch: 1n });
        m.vm.assignIoeventfd(two, { bus: "pio", address: 0x500, length: 2, datamatch: 2n });
        m.expectOut(0x500, 3, 2);
        equal([one.take(), two.take()], [1, 2], "how often they rang");
        m.expect(ExitReason.HLT);
      },
    },
    {
      name: "datamatch of 64 bits compares them all",
      guest: long`
        mov rdi, ${MMIO}
        mov rax, 0x1122334455667788
        mov [rdi], rax
        mov eax, 0x55667788
        mov [rdi], rax
        hlt`,
      run(t) {
        const m = t.machine();
        const bell = t.notifier();
        const datamatch = 0x1122334455667788n;
        m.vm.assignIoeventfd(bell, { bus: "mmio", address: MMIO, length: 8, datamatch });
        m.expectWrite(MMIO, 0x55667788, 8);
        equal(bell.take(), 1, "how often it rang");
      },
    },
    {
      name: "length 0 matches every width",
      unsupported: needs(Capability.IOEVENTFD_ANY_LENGTH),
      guest: long`
        mov rdi, ${MMIO}
        mov [rdi], al
        mov [rdi], ax
        mov [rdi], eax
        mov [rdi], rax
        mov [rdi + 1], al
        hlt`,
      run(t) {
        const m = t.machine();
        const bell = t.notifier();
        m.vm.assignIoeventfd(bell, { bus: "mmio", address: MMIO, length: 0 });
        m.expectWrite(MMIO + 1, 0, 1);
        equal(bell.take(), 4, "how often it rang");
      },
    },
    {
      name: "a doorbell that was taken off exits again; taking it off twice is refused",
      guest: protected32`
        out 0x50, al
        out 0x52, al
        out 0x50, al
        hlt`,
      run(t) {
        const m = t.machine();
        const bell = t.notifier();
        const where = { bus: "pio", address: 0x50, length: 1 } as const;
        m.vm.assignIoeventfd(bell, where);
        m.expectOut(0x52, 0);
        equal(bell.take(), 1, "how often it rang");
        m.vm.deassignIoeventfd(bell, where);
        m.expectOut(0x50, 0);
        equal(bell.take(), 0, "how often it rang after that");
        refused(() => m.vm.deassignIoeventfd(bell, where), "KVM_REQUEST_FAILED", "no notifier is assigned there");
      },
    },
    {
      name: "two notifiers for the same writes are refused",
      guest: protected32`hlt`,
      run(t) {
        const m = t.machine();
        const where = { bus: "pio", address: 0x50, length: 1 } as const;
        m.vm.assignIoeventfd(t.notifier(), where);
        refused(() => m.vm.assignIoeventfd(t.notifier(), where), "KVM_REQUEST_FAILED", "assigned there already");
      },
    },
    {
      name: "coalesced mmio: writes are collected in order until something exits",
      unsupported: needs(Capability.COALESCED_MMIO),
      guest: long`
        mov rdi, ${MMIO}
        mov rax, 0x1122334455667788
        mov [rdi], al
        mov [rdi + 2], ax
        mov [rdi + 4], eax
        mov [rdi + 8], rax
        mov [rdi + 0x1000], al
        hlt`,
      run(t) {
        const m = t.machine();
        m.vm.registerCoalescedZone({ bus: "mmio", address: MMIO, sizeBytes: 0x1000 });
        m.expectWrite(MMIO + 0x1000, 0x88, 1);
        const [low, high] = [0x55667788, 0x11223344];
        equal(
          collected(m),
          [
            { bus: "mmio", address: MMIO, length: 1, low: 0x88, high: 0 },
            { bus: "mmio", address: MMIO + 2, length: 2, low: 0x7788, high: 0 },
            { bus: "mmio", address: MMIO + 4, length: 4, low, high: 0 },
            { bus: "mmio", address: MMIO + 8, length: 8, low, high },
          ],
          "the ring",
        );
      },
    },
    {
      name: "coalesced mmio: a full ring exits, and nothing is lost or doubled",
      unsupported: needs(Capability.COALESCED_MMIO),
      guest: long`
        mov rdi, ${MMIO}
        xor eax, eax
      again:
        mov [rdi], eax
        inc eax
        cmp eax, 400
        jne again
        hlt`,
      run(t) {
        const m = t.machine();
        m.vm.registerCoalescedZone({ bus: "mmio", address: MMIO, sizeBytes: 4 });
        const seen: number[] = [];
        let exits = 0;
        for (let exit = m.exit(); exit.reason !== ExitReason.HLT; exit = m.exit()) {
          ok(exit.reason === ExitReason.MMIO && exit.write, "every exit is a write that the ring had no room for");
          seen.push(...collected(m).map((write) => write.low), Number(exit.value));
          exits += 1;
        }
        seen.push(...collected(m).map((write) => write.low));
        equal(
          seen,
          Array.from({ length: 400 }, (_, index) => index),
          "the values in order",
        );
        ok(exits >= 1 && exits <= Math.ceil(400 / (COALESCED_RING_ENTRIES - 1)), `${exits} exits for 400 writes`);
      },
    },
    {
      name: "coalesced pio: writes to a port are collected too",
      unsupported: needs(Capability.COALESCED_PIO),
      guest: protected32`
        mov eax, 0x12345678
        out 0x60, al
        out 0x60, eax
        hlt`,
      run(t) {
        const m = t.machine();
        m.vm.registerCoalescedZone({ bus: "pio", address: 0x60, sizeBytes: 4 });
        m.expect(ExitReason.HLT);
        equal(
          collected(m),
          [
            { bus: "pio", address: 0x60, length: 1, low: 0x78, high: 0 },
            { bus: "pio", address: 0x60, length: 4, low: 0x12345678, high: 0 },
          ],
          "the ring",
        );
      },
    },
    {
      name: "a zone that was taken back exits again",
      unsupported: needs(Capability.COALESCED_MMIO),
      guest: protected32`
        mov byte ptr [${MMIO}], 1
        out 0x10, al
        mov byte ptr [${MMIO}], 2
        hlt`,
      run(t) {
        const m = t.machine();
        const zone = { bus: "mmio", address: MMIO, sizeBytes: 0x1000 } as const;
        m.vm.registerCoalescedZone(zone);
        m.expectOut(0x10, 0);
        m.vm.unregisterCoalescedZone(zone);
        m.expectWrite(MMIO, 2, 1);
        equal(
          collected(m).map((write) => write.low),
          [1],
          "the ring",
        );
      },
    },
  ],
};

/** What the ring holds, as records of their own: the ring reuses one for all. */
function collected(m: Machine) {
  const writes: { bus: string; address: number; length: number; low: number; high: number }[] = [];
  const ring = m.vcpu.coalescedRing;
  ok(ring !== undefined, "a host with coalesced writes has a ring");
  ring.drain(({ bus, address, length, low, high }) => writes.push({ bus, address, length, low: low >>> 0, high }));
  return writes;
}
