import assert from "node:assert/strict";
import { test } from "node:test";
import { importsOf } from "./tree.ts";

test("every form of import is found, once", () => {
  const source = `#!/usr/bin/env node
import "./effect.ts";
import one, { two } from "one";
import type { Three } from '@lodge/three';
import * as four from "node:four";
import {
  five,
  type Fives,
} from "@lodge/five/fives";
export * from "./six.ts";
export { type Seven, seven } from "./seven.ts";
export const eight = "eight";
export function nine(from = "nine"): void {}
const ten = await import("./ten.ts");
type Eleven = import("eleven").Eleven;
new Worker(new URL("./twelve.ts", import.meta.url));
import { again } from "one";
importer("thirteen");
`;
  assert.deepEqual(importsOf(source).sort(), [
    "./effect.ts",
    "./seven.ts",
    "./six.ts",
    "./ten.ts",
    "./twelve.ts",
    "@lodge/five/fives",
    "@lodge/three",
    "eleven",
    "node:four",
    "one",
  ]);
});
