/** Which differences from AMD's processors are theirs: on whatever host this runs. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Decoder } from "../src/decode/decoder.ts";
import { type CodeSize, Instruction, Status } from "../src/decode/instruction.ts";
import { amdsOwn } from "./amd.ts";

interface Case {
  bits?: CodeSize;
  faulted?: boolean;
  refused?: boolean;
}

function own(hex: string, { bits = 64, faulted = false, refused = false }: Case = {}) {
  const bytes = Buffer.from(hex, "hex");
  const instruction = new Instruction();
  assert.equal(new Decoder().decode(bytes, 0, bytes.length, bits, instruction), Status.OK, hex);
  return amdsOwn(instruction, bytes, bits, { faulted, refused });
}

test("what differs by the encoding", () => {
  assert.equal(own("0f53c1"), "approximations"); // rcpps
  assert.equal(own("c5f853c1"), "approximations"); // vrcpps
  assert.equal(own("c4436d40dcf9"), "NaNs of dot products");
  assert.equal(own("c4827d908c23e5ffffff"), "gathers");
  assert.equal(own("66427dbc"), "near branches of 16 bits");
  assert.equal(own("66ffe4"), "near branches of 16 bits");
  assert.equal(own("66c2b300"), "near branches of 16 bits");
  assert.equal(own("66ebfe", { bits: 32 }), undefined);
  assert.equal(own("427dbc"), undefined);
  assert.equal(own("f346e0b7"), "LOOPE and LOOPNE with REP");
  assert.equal(own("e0b7"), undefined);
  assert.equal(own("f34190"), "XCHG of r8 with REP");
  assert.equal(own("f390"), undefined);
  assert.equal(own("67f24eab"), "REP with addresses of 32 bits");
  assert.equal(own("f3ab"), undefined);
  assert.equal(own("660fa4d805"), "SHLD and SHRD of 16 bits");
  assert.equal(own("0fa4d805"), undefined);
  assert.equal(own("6646632a"), "MOVSXD of 16 bits");
});

test("what differs only where a fault comes of it", () => {
  for (const [hex, way] of [
    ["0fe709", "MMX registers where a store faults"], // movntq
    ["f2af", "flags where REP CMPS or SCAS faults"],
    ["c422212e0e", "address where a masked store faults"], // vmaskmovps
    ["f2df36", "half of a number of 80 bits"], // fbstp
    ["db39", "half of a number of 80 bits"], // fstp
    ["c4837d1d825900000026", "MXCSR where VCVTPS2PH faults"],
  ] as const) {
    assert.equal(own(hex, { faulted: true }), way);
    assert.equal(own(hex), undefined);
  }
});

test("what differs only where the processor refuses it", () => {
  for (const hex of ["65c4c171ee3e", "64488b06"]) {
    assert.equal(own(hex, { refused: true }), "addresses without FS's or GS's base");
    assert.equal(own(hex), undefined);
    assert.equal(own(hex, { faulted: true }), undefined);
  }
});

test("all else has to agree", () => {
  for (const hex of ["4801c8", "0f58c1", "f30f51c1", "d8c1", "f3a4", "488b06"]) {
    assert.equal(own(hex), undefined, hex);
    assert.equal(own(hex, { faulted: true }), undefined, hex);
  }
});
