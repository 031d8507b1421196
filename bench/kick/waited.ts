/** How long a thread of this process has waited for a processor in all, in microseconds: the second field of schedstat (proc_pid_schedstat(5)). */

import { readFileSync } from "node:fs";

export function waitedUs(threadId: number): number {
  return Number(readFileSync(`/proc/self/task/${threadId}/schedstat`, "utf8").split(" ")[1]) / 1000;
}
