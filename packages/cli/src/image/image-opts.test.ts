/** `lodge image --image-opts` and `--object` beside qemu-img's. */

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { test } from "node:test";
import { bin, missing, Place, refused, skip } from "../../testing/image-place.ts";
import { makeCertificates, serve } from "../../testing/nbd-peer.ts";

/** A place with an image of each format and a chain. */
function filled(): Place {
  const place = new Place();
  place.qemu("create", "-q", "-f", "raw", "raw", "4M");
  place.io("raw", "write -P 1 0 1M", "write -P 2 1M 64k", "write -P 3 3M 512");
  place.qemu("create", "-q", "-f", "qcow2", "-b", "raw", "-F", "raw", "a,b.qcow2", "4M");
  place.io("a,b.qcow2", "write -P 4 512k 1M");
  place.qemu("convert", "-O", "vmdk", "raw", "disk.vmdk");
  return place;
}

test("what is read by options is what qemu-img reads by them", { skip }, () => {
  using place = filled();
  const named = [
    "driver=qcow2,file.driver=file,file.filename=a,,b.qcow2",
    "file.filename=a,,b.qcow2",
    "driver=qcow2,file.filename=a,,b.qcow2,force-share=yes,cache.no-flush=on,read-only=true",
    "driver=raw,file.filename=a,,b.qcow2",
    "driver=file,filename=a,,b.qcow2",
    "driver=vmdk,file.filename=disk.vmdk",
    "driver=raw,offset=1M,size=65536,file.filename=raw",
    "driver=raw,offset=512k,file.filename=raw",
    "driver=raw,size=1M,file.filename=raw",
  ];
  for (const options of named) {
    const both = (...args: string[]) => {
      const [ours, theirs] = [place.lodge(...args), place.qemu(...args)];
      return [JSON.parse(ours), JSON.parse(theirs)];
    };
    const [info, other] = both("info", "--output=json", "--image-opts", options);
    assert.equal(info["virtual-size"], other["virtual-size"], options);
    assert.equal(info.format, other.format === "file" ? "raw" : other.format, options);
    const [measured, expected] = both("measure", "-O", "qcow2", "--output=json", "--image-opts", options);
    assert.deepEqual(measured, expected, options);
    place.lodge("convert", "-q", "--image-opts", "-O", "qcow2", options, "ours.qcow2");
    place.qemu("compare", "-q", "--image-opts", options, "driver=qcow2,file.filename=ours.qcow2");
    place.lodge("compare", "-q", "--image-opts", options, "driver=qcow2,file.filename=ours.qcow2");
    for (const [tool, name] of [
      [place.lodge, "d1"],
      [place.qemu, "d2"],
    ] as const) {
      tool.call(place, "dd", "--image-opts", "-O", "raw", "bs=512", "count=900", `if=${options}`, `of=${name}`);
    }
    place.qemu("compare", "-q", "-f", "raw", "-F", "raw", "d1", "d2");
  }
  for (const options of named.slice(0, 4)) {
    assert.deepEqual(
      JSON.parse(place.lodge("map", "--output=json", "--image-opts", options)),
      JSON.parse(place.qemu("map", "--output=json", "--image-opts", options)),
    );
  }
  const several = ["driver=raw,offset=1M,size=64k,file.filename=raw", "driver=vmdk,file.filename=disk.vmdk"];
  place.lodge("convert", "-q", "--image-opts", ...several, "ours");
  place.qemu("convert", "--image-opts", ...several, "theirs");
  place.qemu("compare", "-q", "-f", "raw", "-F", "raw", "ours", "theirs");
});

test("what is changed by options, qemu-img finds so", { skip }, () => {
  using place = filled();
  const top = ["--image-opts", "driver=qcow2,file.filename=a,,b.qcow2"] as const;
  place.lodge("bitmap", "--add", ...top, "monday");
  place.lodge("snapshot", "-c", "before", ...top);
  assert.match(place.qemu("snapshot", "-l", ...top), /before/);
  assert.match(place.lodge("snapshot", "-l", ...top), /before/);
  place.lodge("snapshot", "-d", "before", ...top);
  place.lodge("resize", "-q", ...top, "5M");
  place.lodge("amend", "-q", "-o", "lazy_refcounts=on", ...top);
  place.lodge("bench", "-q", "-w", "--pattern", "9", "-c", "4", ...top);
  const info = JSON.parse(place.qemu("info", "--output=json", "a,b.qcow2"));
  assert.equal(info["virtual-size"], 5 << 20);
  assert.equal(info["format-specific"].data["lazy-refcounts"], true);
  assert.equal(info["format-specific"].data.bitmaps[0].name, "monday");
  place.qemu("convert", "-O", "raw", "a,b.qcow2", "plain");
  place.lodge("rebase", ...top, "-b", "");
  place.lodge("check", ...top);
  place.qemu("check", "-q", ...top);
  place.qemu("compare", "-q", "-F", "raw", "a,b.qcow2", "plain");
  place.lodge("rebase", ...top, "-u", "-b", "raw", "-F", "raw");
  place.lodge("commit", "-q", ...top);
  place.qemu("compare", "-q", "-f", "raw", "-F", "raw", "raw", "plain");

  // Into a part of a file, whose other parts stay as they are.
  const target = "driver=raw,offset=2M,size=64k,file.filename=raw";
  place.lodge("resize", "-q", "-f", "raw", "raw", "4M", "--shrink");
  place.qemu("convert", "-O", "raw", "raw", "theirs");
  const source = "driver=raw,offset=3M,size=64k,file.filename=plain";
  place.lodge("convert", "-q", "-n", "--image-opts", "--target-image-opts", source, target);
  const theirs = target.replace("filename=raw", "filename=theirs");
  place.qemu("convert", "-n", "--image-opts", "--target-image-opts", source, theirs);
  place.qemu("compare", "-q", "-f", "raw", "-F", "raw", "raw", "theirs");
});

test("a server is named by options, with TLS by --object", {
  skip: skip || missing("qemu-nbd", "openssl"),
}, () => {
  using place = filled();
  const pki = place.path("pki");
  makeCertificates(pki);
  const key = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
  writeFileSync(place.path("keys.psk"), `qemu:${key}\nalice:${key.replaceAll("0", "9")}\n`);
  const x509 = (endpoint: string) => `tls-creds-x509,id=t,dir=${pki},endpoint=${endpoint}`;
  const psk = `tls-creds-psk,id=t,dir=${place.path(".")}`;
  const objects = {
    none: [[], []],
    x509: [
      ["--object", x509("server"), "--tls-creds", "t"],
      ["--object", x509("client")],
    ],
    psk: [
      ["--object", `${psk},endpoint=server`, "--tls-creds", "t"],
      ["--object", `${psk},username=alice`],
    ],
  } as const;
  for (const [how, [serving, asking]] of Object.entries(objects)) {
    const socket = place.path(`${how}.socket`);
    using _server = serve(place.path("."), socket, "-r", "-f", "raw", "-x", "a b", ...serving, "raw");
    const server = `server.type=unix,server.path=${socket},export=a b`;
    const secured = how === "none" ? "" : how === "psk" ? ",tls-creds=t" : ",tls-creds=t,tls-hostname=localhost";
    const options = `driver=nbd,${server}${secured}`;
    for (const [command, ...args] of [
      ["compare", options, "driver=raw,file.filename=raw"],
      ["info", `driver=raw,offset=1M,file.driver=nbd,${`${server}${secured}`.replace(/(^|,)/g, "$1file.")}`],
    ]) {
      const all = [command!, ...asking, "--image-opts", ...args];
      place.qemu(...all);
      place.lodge(...all);
    }
    if (how === "none") {
      const qcow2 = place.path("qcow2.socket");
      place.qemu("convert", "-O", "qcow2", "raw", "whole.qcow2");
      using _other = serve(place.path("."), qcow2, "-r", "-f", "raw", "whole.qcow2");
      const all = ["check", "--output=json", `nbd+unix:///?socket=${qcow2}`];
      assert.deepEqual(JSON.parse(place.lodge(...all)), JSON.parse(place.qemu(...all)));
      continue;
    }
    refused(place, ["info", "--image-opts", `driver=nbd,${server}`], /the server wants TLS/);
    if (how !== "x509") continue;
    const other = options.replace("=localhost", "=elsewhere");
    assert.notEqual(place.run("qemu-img", "info", ...asking, "--image-opts", other).status, 0);
    refused(place, ["info", ...asking, "--image-opts", other], /elsewhere. is not in the cert/);
  }
});

test("options that say nothing, or what is not there, are refused in one line", { skip }, () => {
  using place = filled();
  for (const [said, ...args] of [
    [/it names no image/, "driver=qcow2"],
    [/it names no image/, "filename=raw"],
    [/raw is not NAME=VALUE/, "raw"],
    [/there is no colour/, "file.filename=raw,colour=red"],
    [/there is no backing.driver/, "driver=qcow2,file.filename=a,,b.qcow2,backing.driver=raw"],
    [/the driver ssh is none/, "file.driver=ssh,file.filename=raw"],
    [/the format nosuch is unknown/, "driver=nosuch,file.filename=raw"],
    [/force-share is on or off, not 1/, "file.filename=raw,force-share=1"],
    [/x is no size/, "driver=raw,offset=x,file.filename=raw"],
    [/no part of 4194304 bytes at 512/, "driver=raw,offset=512,size=4M,file.filename=raw"],
    [/parts are of raw ones/, "driver=qcow2,offset=512,file.filename=a,,b.qcow2"],
    [/a multiple of 512/, "driver=raw,offset=7,size=512,file.filename=raw"],
    [/at a host .* or at a Unix/, "driver=nbd,export=x"],
    [/no --object has the id t/, "driver=nbd,host=localhost,tls-creds=t"],
    [/driver=, not -f/, "file.filename=raw", "-f", "raw"],
    [/nothing here takes a secret/, "file.filename=raw", "--object", "secret,id=s,data=x"],
    [/id=NAME and dir=FOLDER/, "file.filename=raw", "--object", "tls-creds-psk,id=s"],
    [/another one has the id s/, "file.filename=raw", ...twice("tls-creds-psk,id=s,dir=.")],
    [/always verified/, "file.filename=raw", "--object", "tls-creds-x509,id=s,dir=.,verify-peer=no"],
    [/there is no passwordid/, "file.filename=raw", "--object", "tls-creds-x509,id=s,dir=.,passwordid=p"],
  ] as const) {
    refused(place, ["info", "--image-opts", ...args], said);
  }
  const top = "driver=qcow2,file.filename=a,,b.qcow2";
  refused(place, ["commit", "--image-opts", `${top},cache.direct=on`], /takes driver and file, and nothing else/);
  refused(place, ["snapshot", "-l", "--image-opts", "driver=raw,file.filename=raw"], /has no snapshots/);
  refused(place, ["resize", "--image-opts", "driver=raw,size=1M,file.filename=raw", "2M"], /longer or shorter/);
  refused(place, ["bench", "-n", "raw"], /^lodge: -n: there is no native AIO here/);
  refused(place, ["convert", "--target-image-opts", "raw", "driver=raw,file.filename=x"], /say -n/);
  refused(place, ["convert", "-n", "--target-image-opts", "raw", "file.filename=raw"], /does not say the format/);
  assert.equal(
    place.run(process.execPath, bin, "image", "info", "--object", "tls-creds-psk,id=s,dir=.", "raw").status,
    0,
  );
});

function twice(definition: string): string[] {
  return ["--object", definition, "--object", definition];
}
