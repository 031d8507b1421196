/** Says on standard error what goes wrong with a machine that goes on. */

import type { LifeEvent } from "@lodge/vmm";

export function troubleSayer(): (told: LifeEvent) => void {
  /** Of the requests whose failure stops a machine the first says it all, until the machine goes on. */
  let waits = false;
  return (told) => {
    if (told.event === "trouble" || (told.event === "disk-error" && told.action !== "stop")) say(told.message);
    if (told.event === "disk-error" && told.action === "stop" && !waits) {
      waits = true;
      say(`${told.message}; the machine waits until that is mended`);
    }
    if (told.event === "resumed" && waits) {
      waits = false;
      say("the machine goes on");
    }
  };
}

/** On a raw terminal a new line begins where the last one ended. */
function say(text: string): void {
  process.stderr.write(`lodge: ${text}${process.stdin.isRaw ? "\r\n" : "\n"}`);
}
