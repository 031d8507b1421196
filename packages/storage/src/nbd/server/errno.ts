/** What a failed transfer is to an NBD client. */

import { NbdErrno } from "../protocol.ts";

const PASSED_ON: ReadonlyMap<string, number> = new Map([
  ["EPERM", NbdErrno.EPERM],
  ["EACCES", NbdErrno.EPERM],
  ["EROFS", NbdErrno.EPERM],
  ["ENOMEM", NbdErrno.ENOMEM],
  ["ENOSPC", NbdErrno.ENOSPC],
  ["EDQUOT", NbdErrno.ENOSPC],
  ["EFBIG", NbdErrno.ENOSPC],
  ["ENOTSUP", NbdErrno.ENOTSUP],
  ["EOPNOTSUPP", NbdErrno.ENOTSUP],
]);

/** The host's reason, if it is among the errors or their causes and the protocol has it; else EIO. */
export function errnoOf(error: unknown): number {
  for (let at = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    const errno = "code" in at ? PASSED_ON.get(String(at.code)) : undefined;
    if (errno !== undefined) return errno;
  }
  return NbdErrno.EIO;
}
