/** The table of what each GSI leads to: `struct kvm_irq_routing`. */

import { ChipRoutingEntry, MsiRoutingEntry, ROUTING_HEADER, RoutingType } from "../layout/interrupts.ts";
import type { GsiRoute } from "../vm.ts";

/** KVM_MSI_VALID_DEVID. */
const MSI_VALID_DEVID = 1;

export function encodeRouting(routes: readonly GsiRoute[]): DataView {
  const view = new DataView(new ArrayBuffer(ROUTING_HEADER + routes.length * ChipRoutingEntry.size));
  view.setUint32(0, routes.length, true);
  routes.forEach((route, index) => {
    const offset = ROUTING_HEADER + index * ChipRoutingEntry.size;
    switch (route.type) {
      case "irqchip":
        ChipRoutingEntry.write(view, offset, {
          gsi: route.gsi,
          type: RoutingType.IRQCHIP,
          flags: 0,
          irqchip: route.irqchip,
          pin: route.pin,
        });
        break;
      case "msi":
        MsiRoutingEntry.write(view, offset, {
          gsi: route.gsi,
          type: RoutingType.MSI,
          flags: route.devid === undefined ? 0 : MSI_VALID_DEVID,
          addressLo: route.addressLo,
          addressHi: route.addressHi,
          data: route.data,
          devid: route.devid ?? 0,
        });
        break;
    }
  });
  return view;
}
