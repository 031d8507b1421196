/**
 * What ACPI says of slots whose functions come and go (ACPI 6.4, 5.6.6 and 6.3.3): a general-purpose event has the system look
 * at the registers of pci/hotplug.ts, which tell it the slots; a slot's _EJ0 says that the system has let go.
 */

import { Port } from "../chipset.ts";
import { DEVICE_SLOTS } from "../pci/bus.ts";
import { HOTPLUG_PORTS, HotplugRegister } from "../pci/hotplug.ts";
import {
  and,
  call,
  device,
  fields,
  ifSo,
  integer,
  local,
  method,
  name,
  notify,
  portRegion,
  scope,
  store,
  type Term,
} from "./aml.ts";

/** The general-purpose event that says that slots have changed; its method is called by its number. */
export const SLOTS_EVENT = 1;

/** Notifications (5.6.6): look at the device anew; it is to be ejected. */
const DEVICE_CHECK = 1;
const EJECT_REQUEST = 3;

const PLUGGED = "PLUG";
const ASKED_OUT = "ASKD";
const EJECT = "EJCT";

const slotName = (slot: number) => `S${slot.toString(16).toUpperCase().padStart(3, "0")}`;

/** What belongs into the PCI host's scope. */
export function pciSlots(): Term[] {
  const { PLUGGED: plugged, ASKED_OUT: askedOut, EJECT: eject } = HotplugRegister;
  const named = [
    { at: plugged, name: PLUGGED },
    { at: askedOut, name: ASKED_OUT },
    { at: eject, name: EJECT },
  ];
  return [
    portRegion("HPIO", Port.PCI_HOTPLUG, HOTPLUG_PORTS),
    fields("HPIO", ...named.toSorted((one, other) => one.at - other.at).map((field) => field.name)),
    ...DEVICE_SLOTS.map((slot) =>
      device(
        slotName(slot),
        name("_ADR", integer(slot * 2 ** 16)),
        name("_SUN", integer(slot)),
        method("_EJ0", 1, store(integer(2 ** slot), EJECT)),
      ),
    ),
    // What was read is cleared before it is told, so that what comes meanwhile is not lost.
    method(
      "LOOK",
      0,
      store(call(PLUGGED), local(0)),
      store(local(0), PLUGGED),
      store(call(ASKED_OUT), local(1)),
      store(local(1), ASKED_OUT),
      ...DEVICE_SLOTS.map((slot) =>
        ifSo(and(local(0), integer(2 ** slot)), notify(slotName(slot), integer(DEVICE_CHECK))),
      ),
      ...DEVICE_SLOTS.map((slot) =>
        ifSo(and(local(1), integer(2 ** slot)), notify(slotName(slot), integer(EJECT_REQUEST))),
      ),
    ),
  ];
}

/** The event's method: edge-triggered, so its status is cleared before it looks. */
export function slotsEvent(host: string): Term {
  const number = SLOTS_EVENT.toString(16).toUpperCase().padStart(2, "0");
  return scope("\\_GPE", method(`_E${number}`, 0, call(`${host}.LOOK`)));
}
