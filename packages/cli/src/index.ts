/** The lodge command as a function. */

export { main } from "./main.ts";
