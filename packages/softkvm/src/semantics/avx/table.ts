/** AVX, AVX2, FMA and F16C: Intel SDM vol. 2. Most are SSE instructions in another form; the rest is in this room's files. */

import type { Meaning } from "../context.ts";
import { vectors } from "../sse/table.ts";
import { fma } from "./fma.ts";
import { halfPrecision } from "./half-precision.ts";
import { masked } from "./masked.ts";
import { avxMoves } from "./moves.ts";
import { permutes } from "./permutes.ts";
import { tests } from "./tests.ts";
import { type VexForm, vex } from "./vex.ts";

/** Instructions of SSE in a VEX form, by their names with a V in front. */
function forms(form: VexForm, names: string): Record<string, Meaning> {
  return Object.fromEntries(
    names
      .trim()
      .split(/\s+/)
      .map((name) => [`v${name}`, vex(vectors[name]!, form)]),
  );
}

/** The destination, then the operands of SSE. */
const SEPARATE = `
  andps andpd andnps andnpd orps orpd xorps xorpd
  addps addpd subps subpd mulps mulpd divps divpd minps minpd maxps maxpd
  haddps haddpd hsubps hsubpd addsubps addsubpd dpps dppd
  unpcklps unpcklpd unpckhps unpckhpd shufps cmpps cmppd
  movlhps movhlps movhps movhpd insertps pinsrb pinsrw pinsrd
  blendvps blendvpd pblendvb pblendw palignr

  pand pandn por pxor
  paddb paddw paddd paddq paddsb paddsw paddusb paddusw psubb psubw psubd psubq psubsb psubsw psubusb psubusw
  pavgb pavgw pminub pminsw pmaxub pmaxsw pminsb pminuw pminsd pminud pmaxsb pmaxuw pmaxsd pmaxud
  pcmpeqb pcmpeqw pcmpeqd pcmpeqq pcmpgtb pcmpgtw pcmpgtd pcmpgtq
  pmullw pmulhw pmulhuw pmulhrsw pmulld pmuldq pmuludq pmaddwd pmaddubsw psadbw
  psignb psignw psignd phaddw phaddd phaddsw phsubw phsubd phsubsw pshufb
  packsswb packuswb packssdw packusdw
  punpcklbw punpcklwd punpckldq punpcklqdq punpckhbw punpckhwd punpckhdq punpckhqdq
  aesenc aesenclast aesdec aesdeclast pclmulqdq`;

/** Two operands in both. */
const SAME = `
  sqrtps sqrtpd rcpps rsqrtps roundps roundpd
  cvtdq2ps cvtps2dq cvttps2dq cvtss2si cvtsd2si cvttss2si cvttsd2si comiss comisd ucomiss ucomisd
  movsldup movshdup movddup movd movq pextrb pextrw pextrd extractps maskmovdqu ldmxcsr stmxcsr
  pabsb pabsw pabsd pshufd pshufhw pshuflw phminposuw
  aesimc aeskeygenassist pcmpestri pcmpestrm pcmpistri pcmpistrm`;

const half = (bits: number) => (value: number, number: number) => (value >> (number * bits)) & ((1 << bits) - 1);

export const avx: Record<string, Meaning> = {
  ...forms({ separate: true }, SEPARATE),
  ...forms({}, SAME),
  ...forms(
    { separate: true, scalar: 4 },
    "movss addss subss mulss divss sqrtss minss maxss rcpss rsqrtss roundss cmpss",
  ),
  ...forms(
    { separate: true, scalar: 8 },
    "movsd addsd subsd mulsd divsd sqrtsd minsd maxsd roundsd cmpsd movlps movlpd",
  ),
  ...forms({ separate: true, scalar: 4 }, "cvtsi2ss cvtsd2ss"),
  ...forms({ separate: true, scalar: 8 }, "cvtsi2sd cvtss2sd"),
  ...forms({ separate: true, source: "count" }, "psllw pslld psllq psrlw psrld psrlq psraw psrad pslldq psrldq"),
  ...forms({ source: "wider" }, "cvtpd2ps cvtpd2dq cvttpd2dq"),
  ...forms({ source: "narrower" }, "cvtps2pd cvtdq2pd pmovsxbw pmovsxbd pmovsxbq pmovsxwd pmovsxwq pmovsxdq"),
  ...forms({ source: "narrower" }, "pmovzxbw pmovzxbd pmovzxbq pmovzxwd pmovzxwq pmovzxdq"),

  // Their immediates have bits for each half.
  ...forms({ separate: true, immediate: half(2) }, "shufpd blendpd"),
  ...forms({ separate: true, immediate: half(4) }, "blendps"),
  ...forms({ separate: true, immediate: half(3) }, "mpsadbw"),
  vpblendd: vex(vectors.blendps!, { separate: true, immediate: half(4) }),

  ...avxMoves,
  ...fma,
  ...halfPrecision,
  ...masked,
  ...permutes,
  ...tests,
};
