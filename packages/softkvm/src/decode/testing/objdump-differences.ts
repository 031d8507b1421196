/**
 * Where binutils' objdump (2.40) and the decoder differ on purpose: what objdump writes another way, what it takes for
 * valid though processors do not, what belongs to extensions that the decoder does not have, and what objdump lacks.
 */

const PREFIXES =
  /^(?:(?:lock|rep|repz|repnz|data16|data32|addr16|addr32|[cdefgs]s|rex(?:\.\w+)?|bnd|notrack|xacquire|xrelease|\{vex\}) +)+/;

/** The same instruction in one spelling: without what only one side writes. */
export function normalize(text: string): string {
  return (
    text
      // Resolved addresses of RIP-relative operands.
      .replace(/\s*#.*/, "")
      .replace(/\s+/g, " ")
      .trim()
      .replace(PREFIXES, "")
      // SIB without an index.
      .replace(/(?:([cdefgs]s):)?\[([er])iz\*\d([+-]0x[0-9a-f]+)\]/, absolute)
      // An override that is also the default, and a displacement of zero.
      .replace(/([cdefgs]s):(?=\[)/g, "")
      .replace(/\+[er]iz\*\d/, "")
      .replace(/([+-])0x0\]/, "]")
      .replace(/^movabs /, "mov ")
      .replace("OWORD PTR", "XMMWORD PTR")
      // Suffixes for an operand size that is not the mode's.
      .replace(/^(enter|leave|pusha?|popa?|pushf|popf|call|jmp|retf?|iret|sysret|sysexit|[sl][gi]dt)[wdq](?= |$)/, "$1")
      .replace(/^sysret[lq]/, "sysret")
      .replace(/^(fn(?:stenv|save)|f(?:ldenv|rstor))[wd](?= )/, "$1")
      // REX.W by name.
      .replace(/^(f?x(?:save|rstor)\w*)64(?= )/, "$1")
      .replace(/^(v?pcmp[ei]str[im])q(?= )/, "$1")
      .replaceAll("st(0)", "st")
      // These read 16 bits of a register whatever the operand size.
      .replace(/^(mov [cdefgs]s,|l(?:sl|ar) \w+,)([er]?)(\w+?)d?$/, (_, start, _size, reg) => start + word(reg))
  );
}

/** `[eiz*1-0x10]` as `ds:0xfffffff0`. */
function absolute(_: string, segment: string | undefined, width: string, displacement: string): string {
  const value = BigInt(displacement.slice(1)) * (displacement.startsWith("-") ? -1n : 1n);
  return `${segment ?? "ds"}:0x${BigInt.asUintN(width === "e" ? 32 : 64, value).toString(16)}`;
}

/** The 16-bit name of a register whose name has lost `e`, `r` or `d`. */
function word(reg: string): string {
  return /^\d+$/.test(reg) ? `r${reg}w` : reg.replace(/^(\d+)w$/, "r$1w");
}

/** What other processors have, by mnemonic: #UD to the decoder. */
const ABSENT: Record<string, RegExp> = {
  "AMD's 3DNow!, XOP, FMA4 and SSE4a":
    /^(femms|pf|pi2f|pi?swapd|pavgusb|pmulhrw|movnts[sd]|extrq|insertq|vpermil2|vfn?m(add|sub)(sub|add)?[ps][sd] )/,
  "XOP and LWP":
    /^(vfrcz|vpcmov|vpcom|vph(add|sub)\w+[bwd][wdq]q? |vpmac|vpmadcs|vpperm|vprot|vpsh[al][bwdq]|[sl]lwpcb|lwp)/,
  TBM: /^(bextr .*0x[0-9a-f]+$|bl(cfill|ci|cic|cmsk|cs|sfill|sic)|t1mskc|tzmsk)/,
  "SVM, VMX and SMX":
    /^(vmrun|vmload|vmsave|clgi|stgi|skinit|invlpg[ab]|tlbsync|vm(read|write|ptr|clear|xo|launch|resume|func)|inv(ept|vpid)|getsec)/,
  "AVX-512": /\{|^k(add|and|andn|mov|not|or|ortest|shift[lr]|test|unpck|xnor|xor)[bwdq]/,
  GFNI: /^v?gf2p8/,
  "VAES and VPCLMULQDQ": /^(vaes|vpclmul)\w+ ymm/,
  "AVX-VNNI, AVX-IFMA, AVX-NE-CONVERT": /^(vpdp|vpmadd52|v(cvtne|bcstne))/,
  AMX: /^(t(dp|ile|load|store|release|zero)|(ld|st)tilecfg)/,
  "CET's shadow stacks": /^(wru?ss|rstorssp|saveprevssp|setssbsy|clrssbsy|incssp|rdssp)/,
  TSX: /^x(begin|end|abort|test|susldtrk|resldtrk)/,
  "Key Locker": /^(loadiwkey|aes(enc|dec)(wide)?(128|256)kl|encodekey)/,
  "SGX and TDX": /^(encl[suv]|tdcall|sea(mcall|mops|mret))/,
  "SEV-SNP": /^(psmash|pvalidate|rmp)/,
  "user interrupts": /^(senduipi|clui|stui|testui|uiret)/,
  "VIA's PadLock": /^(xsha|xcrypt|xstore|montmul)/,
  "single instructions":
    /^(movdir|enqcmd|aadd|aand|aor|axor|cmpn?\w+xadd|[tu](pause|mwait|monitor)|ptwrite|serialize|clzero|rdpru|monitorx|mwaitx|mcommit|pconfig|(rd|wr)msr(list|ns)|hreset|rdpkru|wrpkru)/,
};

interface Difference {
  why: string;
  bytes?: RegExp;
  ours?: RegExp;
  theirs?: RegExp;
}

/** Legacy prefixes and REX at the start of the bytes as hexadecimal. */
const PREFIXES_AS_BYTES = "^(?:26|2e|36|3e|64|65|66|67|f0|f2|f3|4.)*";
const BAD = /^\(bad\)$/;

const DIFFERENCES: readonly Difference[] = [
  { why: "objdump does not judge LOCK", bytes: new RegExp(`${PREFIXES_AS_BYTES}f0`), ours: BAD },
  {
    why: "66, F2, F3 and REX before VEX are #UD",
    bytes: new RegExp(`${PREFIXES_AS_BYTES}(?<=(66|f2|f3|4.)(26|2e|36|3e|64|65|67)*)c[45]`),
    ours: BAD,
  },
  { why: "AVX-512", bytes: new RegExp(`${PREFIXES_AS_BYTES}62`), ours: BAD },
  { why: "REX before another prefix ends an instruction in objdump", theirs: /^(\w+ )*rex(\.\w+)?$/ },
  {
    why: "hints, which CET, MPX and prefetches refine",
    ours: /^nop /,
    theirs: /^(prefetch|bnd|nop|endbr|rdssp|cldemote|\(bad\))/,
  },
  {
    why: "aliases and opcodes that Intel does not document",
    bytes: new RegExp(`${PREFIXES_AS_BYTES}(d6|f1|82|d[9b-f][c-f])`),
    theirs: BAD,
  },
  { why: "did something on a 287", theirs: /^fn?(eni|disi|setpm)\(/ },
  { why: "did something on a 287", ours: BAD, theirs: /^frstpm\(/ },
  { why: "fences whatever ModRM.rm", ours: /^[lms]fence$/, theirs: BAD },
  {
    why: "objdump ignores a mandatory prefix",
    ours: BAD,
    theirs:
      /^(vzero|v?(ld|st)mxcsr|f?x(save|rstor|[gs]etbv)|clac|stac|monitor|mwait|[ls]fence|[rw][dr][fg]sbase|pmovmskb|mov(q2dq|dq2q))/,
  },
  { why: "objdump wants a mandatory prefix that processors ignore", ours: /^(bs[fr]|wbinvd)/, theirs: BAD },
  { why: "wbinvd where the processor lacks wbnoinvd", ours: /^wbinvd$/, theirs: /^wbnoinvd$/ },
  { why: "what xchg with itself is called", ours: /^nop$/, theirs: /^xchg [re]?ax,[re]?ax$/ },
  { why: "objdump takes VEX.L of a scalar move for a ymm register", ours: /^vmovs[sd] xmm/, theirs: /^vmovs[sd] ymm/ },
  { why: "with 66, too, these have an mm register", ours: /^mov(dq2q|q2dq) /, theirs: /^mov(dq2q xmm|q2dq .*,xmm)/ },
  { why: "objdump takes a DS override for notrack and forgets the other", bytes: /3e.*ff/, ours: /^(call|jmp) .*:/ },
  { why: "there are no 16-bit forms", ours: /^(rd|wr)[fg]sbase (e|r\d+d)/, theirs: /^(rd|wr)[fg]sbase / },
  { why: "of the immediate, two bits count", ours: /^v?pclmulqdq .*,0x/, theirs: /^v?pclmul/ },
  { why: "REX.W goes before 66", ours: /^movsxd r\w+,(DWORD|e|r\d+d)/, theirs: /^movsxd r/ },
  { why: "vmgexit is vmmcall where there is no SEV-ES", ours: /^vmmcall$/, theirs: /^(vmgexit|\(bad\))$/ },
  { why: "far pointers with REX.W have 64 bits of offset on Intel", ours: /^(l[sfg]s|call|jmp) .*TBYTE/ },
  { why: "a CS that cannot be loaded", ours: BAD, theirs: /^mov cs,/ },
  { why: "swapgs and FSGSBASE are of 64-bit mode", ours: BAD, theirs: /^(swapgs|(rd|wr)[fg]sbase)/ },
  {
    why: "there are no test registers, nor CR1, CR5 to CR7, CR9 to CR15 and DR8 to DR15",
    ours: BAD,
    theirs: /^mov (\w+,([cdt]r|db)\d+|([cdt]r|db)\d+,\w+)$/,
  },
];

/** Why the two may differ on these bytes; undefined if they may not. Texts are normalized, or `(bad)`. */
export function knownDifference(bytes: Uint8Array, ours: string, theirs: string): string | undefined {
  const absent = BAD.test(ours) && Object.keys(ABSENT).find((name) => ABSENT[name]!.test(theirs));
  if (absent) return absent;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return DIFFERENCES.find(
    (difference) =>
      (difference.bytes?.test(hex) ?? true) &&
      (difference.ours?.test(ours) ?? true) &&
      (difference.theirs?.test(theirs) ?? true),
  )?.why;
}
