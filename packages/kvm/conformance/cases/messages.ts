/** Message-signalled interrupts, routes, and notifiers that interrupt: api.rst 4.52, 4.70, 4.75 and 7.5. */

import { Capability, ExitReason, type GsiRoute, Irqchip } from "../../src/index.ts";
import { type Group, needs } from "../case.ts";
import { equal, ok, refused } from "../check.ts";
import { long } from "../guest.ts";
import { LAPIC, Port } from "../layout.ts";
import { apicHandler, ENABLE_APIC, mustBeInService, Pin, setIoapicPin, tell } from "./interrupt-guests.ts";

const VECTOR = 0x51;
/** A message to APIC 0. */
const toBoot = { addressLo: LAPIC, addressHi: 0, data: VECTOR, flags: 0, devid: 0 };
/** The first GSI past the IOAPIC's pins. */
const GSI = 24;
const route: GsiRoute = { gsi: GSI, type: "msi", addressLo: LAPIC, addressHi: 0, data: VECTOR };

/** Enables the APIC, says so, then sleeps; each interrupt says so too. */
const sleeper = long`
        ${ENABLE_APIC}
        mov al, 1
        ${tell(Port.READY)}
        sti
      again:
        hlt
        jmp again
        ${apicHandler("handler", VECTOR)}`;

export const messages: Group = {
  name: "messages",
  cases: [
    {
      name: "a message interrupts; the result says whether the guest could take it",
      guest: sleeper,
      run(t) {
        const m = t.machine({ irqchip: "kernel" });
        m.handle(VECTOR, "handler");
        equal(m.vm.signalMsi(toBoot), 0, "the result while the APIC is off");
        m.expectOut(Port.READY, 1);
        ok(m.vm.signalMsi(toBoot) > 0, "the result while it is on: above 0");
        m.expectOut(Port.VALUE, VECTOR);
      },
    },
    {
      name: "a message wakes a guest that sleeps in the hypervisor",
      guest: long`
        ${ENABLE_APIC}
        sti
        ${tell(Port.READY)}
        hlt
        jmp .
        ${apicHandler("handler", VECTOR)}`,
      async run(t) {
        const m = t.machine({ irqchip: "kernel", vcpus: 0 });
        m.handle(VECTOR, "handler");
        const ready = t.notifier();
        m.vm.assignIoeventfd(ready, { bus: "pio", address: Port.READY, length: 1 });
        const rang = t.rings(ready);
        const vcpu = await t.thread(m, { id: 0 });
        const stopped = vcpu.expectOut(Port.VALUE, VECTOR);
        await rang;
        m.vm.signalMsi(toBoot);
        await stopped;
      },
    },
    {
      name: "a GSI that is routed to a message sends it when it is raised",
      unsupported: needs(Capability.IRQ_ROUTING),
      guest: sleeper,
      run(t) {
        const m = t.machine({ irqchip: "kernel" });
        m.handle(VECTOR, "handler");
        m.vm.setGsiRouting([route]);
        m.expectOut(Port.READY, 1);
        ok(m.vm.setIrqLine(GSI, true) > 0, "delivered");
        m.expectOut(Port.VALUE, VECTOR);
      },
    },
    {
      name: "new routes replace all old ones",
      unsupported: needs(Capability.IRQ_ROUTING),
      guest: long`
        ${ENABLE_APIC}
        ${setIoapicPin(4, 0x44)}
        ${setIoapicPin(5, 0x45)}
        mov al, 1
        ${tell(Port.READY)}
        sti
        hlt
        mov al, 2
        ${tell(Port.CHECK)}
        ${tell(Port.DONE)}
        ${apicHandler("four", 0x44)}
        ${apicHandler("five", 0x45)}`,
      run(t) {
        const m = t.machine({ irqchip: "kernel" });
        m.handle(0x44, "four");
        m.handle(0x45, "five");
        m.expectOut(Port.READY, 1);
        // Line 20 leads to pin 5; and no line leads to pin 4 any more.
        m.vm.setGsiRouting([{ gsi: 20, type: "irqchip", irqchip: Irqchip.IOAPIC, pin: 5 }]);
        ok(m.vm.setIrqLine(4, true) <= 0, "line 4 leads nowhere");
        m.vm.setIrqLine(20, true);
        m.expectOut(Port.VALUE, 0x45);
        m.expectOut(Port.CHECK, 2);
        m.expectOut(Port.DONE, 2);
      },
    },
    {
      name: "a notifier interrupts by a routed message",
      unsupported: needs(Capability.IRQFD),
      guest: sleeper,
      run(t) {
        const m = t.machine({ irqchip: "kernel" });
        m.handle(VECTOR, "handler");
        m.vm.setGsiRouting([route]);
        const notifier = t.notifier();
        m.vm.assignIrqfd(notifier, GSI);
        m.expectOut(Port.READY, 1);
        notifier.signal();
        m.expectOut(Port.VALUE, VECTOR);
        notifier.signal();
        m.expectOut(Port.VALUE, VECTOR);
      },
    },
    {
      name: "a notifier interrupts by a pin of the IOAPIC, as an edge",
      unsupported: needs(Capability.IRQFD),
      guest: long`
        ${ENABLE_APIC}
        ${setIoapicPin(20, VECTOR)}
        mov al, 1
        ${tell(Port.READY)}
        sti
      again:
        hlt
        jmp again
        ${apicHandler("handler", VECTOR)}`,
      run(t) {
        const m = t.machine({ irqchip: "kernel" });
        m.handle(VECTOR, "handler");
        const notifier = t.notifier();
        m.vm.assignIrqfd(notifier, 20);
        m.expectOut(Port.READY, 1);
        notifier.signal();
        m.expectOut(Port.VALUE, VECTOR);
        notifier.signal();
        m.expectOut(Port.VALUE, VECTOR);
      },
    },
    {
      name: "a notifier that was taken off interrupts no more, and one that is assigned twice is refused",
      unsupported: needs(Capability.IRQFD),
      guest: long`
        ${ENABLE_APIC}
        mov al, 1
        ${tell(Port.READY)}
        sti
        ${tell(Port.CHECK)}
        mov al, 2
        ${tell(Port.DONE)}
        ${apicHandler("handler", VECTOR)}`,
      run(t) {
        const m = t.machine({ irqchip: "kernel" });
        m.handle(VECTOR, "handler");
        m.vm.setGsiRouting([route]);
        const notifier = t.notifier();
        m.vm.assignIrqfd(notifier, GSI);
        refused(() => m.vm.assignIrqfd(notifier, GSI), "KVM_REQUEST_FAILED", "raises an interrupt already");
        m.vm.deassignIrqfd(notifier, GSI);
        m.expectOut(Port.READY, 1);
        notifier.signal();
        m.expectOut(Port.CHECK, 1);
        m.expectOut(Port.DONE, 2);
        equal(notifier.take(), 1, "what the notifier has kept for others");
      },
    },
    {
      // KVM_IRQFD_FLAG_RESAMPLE (4.75): the line goes up with the notifier, and down at the guest's EOI.
      name: "a notifier with resampling holds a level until the EOI, which signals the other notifier",
      unsupported: needs(Capability.IRQFD, Capability.IRQFD_RESAMPLE),
      guest: long`
        ${ENABLE_APIC}
        ${setIoapicPin(20, VECTOR | Pin.LEVEL)}
        mov al, 1
        ${tell(Port.READY)}
        sti
        hlt
        mov al, 2
        ${tell(Port.DONE)}
        hlt
        ${apicHandler("handler", VECTOR)}`,
      run(t) {
        const m = t.machine({ irqchip: "kernel" });
        m.handle(VECTOR, "handler");
        const raise = t.notifier();
        const ended = t.notifier();
        m.vm.assignIrqfd(raise, 20, ended);
        m.expectOut(Port.READY, 1);
        raise.signal();
        m.expectOut(Port.VALUE, VECTOR);
        mustBeInService(t, m, VECTOR);
        equal(ended.take(), 0, "before the EOI");
        m.expectOut(Port.DONE, 2);
        equal(ended.take(), 1, "after the EOI");
        raise.signal();
        m.expectOut(Port.VALUE, VECTOR);
      },
    },
    {
      // KVM_CAP_SPLIT_IRQCHIP (7.5): pins are routes to messages, and a level-triggered one's EOI is the monitor's to know.
      name: "split chips: an EOI of a level-triggered route exits with its vector, one of an edge does not",
      unsupported: needs(Capability.SPLIT_IRQCHIP),
      guest: long`
        ${ENABLE_APIC}
        mov al, 1
        ${tell(Port.READY)}
        sti
      again:
        hlt
        jmp again
        ${apicHandler("edge", 0x41)}
        ${apicHandler("level", VECTOR)}`,
      run(t) {
        const m = t.machine({ irqchip: "split" });
        m.handle(0x41, "edge");
        m.handle(VECTOR, "level");
        const message = { type: "msi", addressLo: LAPIC, addressHi: 0 } as const;
        m.vm.setGsiRouting([
          { gsi: 4, ...message, data: 0x41 },
          // Trigger mode and level (Intel SDM vol. 3, 11.11.2).
          { gsi: 5, ...message, data: VECTOR | (1 << 15) | (1 << 14) },
        ]);
        m.expectOut(Port.READY, 1);
        m.vm.setIrqLine(4, true);
        m.expectOut(Port.VALUE, 0x41);
        m.vm.setIrqLine(5, true);
        m.expectOut(Port.VALUE, VECTOR);
        m.expect(ExitReason.IOAPIC_EOI);
        equal(m.vcpu.page.eoiVector, VECTOR, "the vector");
      },
    },
  ],
};
