/** The suite without what Node adds: for hosts that run it elsewhere, such as in a browser. */

export type { Host } from "./case.ts";
export { type AssembledGuest, assemblyOf, type Guest } from "./guest.ts";
export type { Port, ThreadHandle } from "./port.ts";
export { Session } from "./session.ts";
export { allGuests, runCase, suite } from "./suite.ts";
export { serve } from "./thread.ts";
