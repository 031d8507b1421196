import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { parseCount, parseFields, parseSwitch } from "./fields.ts";
import { formatSize, parseSize } from "./size.ts";

suite("sizes", () => {
  test("as people write them", () => {
    const sizes: [string | number, number][] = [
      ["512M", 512 * 2 ** 20],
      ["4G", 2 ** 32],
      ["1.5G", 1.5 * 2 ** 30],
      ["64MiB", 64 * 2 ** 20],
      ["100 kb", 102400],
      ["4096", 4096],
      [4096, 4096],
    ];
    for (const [text, bytes] of sizes) assert.equal(parseSize(text, "memory"), bytes, String(text));
  });
  test("what is none is refused by its name", () => {
    for (const text of ["", "M", "12X", "-1", "1e9", "0.3", "99999999T", Number.NaN, -5, 1.5]) {
      assert.throws(() => parseSize(text, "memory"), { code: "VMM_CONFIG", message: /^memory / }, String(text));
    }
  });
  test("back to text, as short as it is exact", () => {
    for (const text of ["512M", "4G", "3", "1025K", "0"]) assert.equal(formatSize(parseSize(text, "")), text);
  });
});

suite("fields", () => {
  const parse = (text: string) => {
    const { value, named } = parseFields(text, "--disk", ["format", "readonly", "serial"]);
    return [value, Object.fromEntries(named)];
  };
  test("a value, and fields by name", () => {
    assert.deepEqual(parse("a.img"), ["a.img", {}]);
    assert.deepEqual(parse("a.img,format=raw,readonly"), ["a.img", { format: "raw", readonly: "on" }]);
    assert.deepEqual(parse("a.img,serial=x=y"), ["a.img", { serial: "x=y" }]);
    assert.deepEqual(parse(",format=raw"), ["", { format: "raw" }]);
  });
  test("a comma is written twice", () => {
    assert.deepEqual(parse("a,,b.img,serial=1,,2"), ["a,b.img", { serial: "1,2" }]);
    assert.deepEqual(parse("a,,,readonly"), ["a,", { readonly: "on" }]);
    assert.deepEqual(parse("a,,,,b"), ["a,,b", {}]);
  });
  test("unknown and repeated fields are refused", () => {
    assert.throws(
      () => parse("a,colour=red"),
      /--disk a,colour=red: there is no field "colour"; it has format, readonly/,
    );
    assert.throws(() => parse("a,format=raw,format=raw"), /format stands there twice/);
    assert.throws(() => parse("a,"), /no field ""/);
  });
  test("switches and counts", () => {
    assert.deepEqual(
      [undefined, "on", "off"].map((text) => parseSwitch(text, "readonly")),
      [false, true, false],
    );
    assert.throws(() => parseSwitch("maybe", "readonly"), /readonly=maybe: it is on or off/);
    assert.equal(parseCount("8", "--cpus"), 8);
    for (const text of ["0", "", "two", "1.5", "-1"]) assert.throws(() => parseCount(text, "--cpus"), /--cpus/, text);
  });
});
