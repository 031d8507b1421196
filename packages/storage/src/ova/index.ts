/** Machines of VMware's and VirtualBox's: OVA and OVF. */

export { type ImportedDisk, type ImportedMachine, type ImportOptions, importAppliance } from "./import.ts";
export type { ApplianceNetwork } from "./ovf.ts";
