/**
 * Compiling takes milliseconds, and whoever kicks the vCPU does not wait for them: what compiles in the vCPU's thread looks
 * between its steps, none of which takes long, whether it is to give up. What it has written by then is garbage.
 */

/** Throws {@link GIVEN_UP} where what is under way is to be given up. */
export type Look = () => void;

export const GIVEN_UP = new Error("compiling was given up");

/** Nobody waits: the thread compiles for others, or through in any case. */
export const noLook: Look = () => {};
