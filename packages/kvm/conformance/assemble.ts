/**
 * Assembles every guest of the suite ahead of its run, with Debian's binutils:
 *
 *     node packages/kvm/conformance/assemble.ts            fills the cache, for hosts that share it or start slowly
 *     node packages/kvm/conformance/assemble.ts FILE       writes all guests to one JSON file besides, by their source:
 *                                                          for hosts without binutils or files, such as browsers
 */

import { writeFileSync } from "node:fs";
import { assemblyOf } from "./guest.ts";
import { assembleStored, cacheDirectory, type Stored } from "./node/assembler.ts";
import { allGuests } from "./suite.ts";

const [file] = process.argv.slice(2);
const bundle: Record<string, Stored> = {};
for (const guest of allGuests()) bundle[assemblyOf(guest)] = assembleStored(guest);
console.log(`${Object.keys(bundle).length} guests are in ${cacheDirectory()}`);
if (file !== undefined) writeFileSync(file, JSON.stringify(bundle));
