/**
 * Instructions that an immediate makes different ones: a shuffle or comparison that is known when code is made is one
 * WebAssembly instruction. Their immediate is part of the instruction's shape; here are the bits of it that matter, so
 * that two immediates which mean the same share a handler.
 */
const SSE: Readonly<Record<string, number>> = {
  ...{ pshufd: 0xff, pshufhw: 0xff, pshuflw: 0xff, pshufw: 0xff, shufps: 0xff, shufpd: 3 },
  ...{ palignr: 0xff, pslldq: 0xff, psrldq: 0xff },
  ...{ pinsrb: 0xf, pinsrw: 7, pinsrd: 3, pextrb: 0xf, pextrw: 7, pextrd: 3, insertps: 0xff, extractps: 3 },
  ...{ blendps: 0xf, blendpd: 3, pblendw: 0xff },
  ...{ cmpps: 7, cmppd: 7, cmpss: 7, cmpsd: 7 },
  ...{ roundps: 0xf, roundpd: 0xf, roundss: 0xf, roundsd: 0xf },
  ...{ dpps: 0xff, dppd: 0x33, mpsadbw: 7 },
  ...{ pcmpestri: 0x7f, pcmpestrm: 0x7f, pcmpistri: 0x7f, pcmpistrm: 0x7f },
  ...{ pclmulqdq: 0x11, aeskeygenassist: 0xff, sha1rnds4: 3 },
};

/** Those of VEX forms that differ from SSE's: they have bits for the upper half, and more comparisons and permutations. */
const AVX: Readonly<Record<string, number>> = {
  ...{ vshufpd: 0xf, vblendps: 0xff, vblendpd: 0xf, vpblendd: 0xff, vmpsadbw: 0x3f, vpermilps: 0xff, vpermilpd: 0xf },
  vcvtps2ph: 7,
  ...{ vcmpps: 0x1f, vcmppd: 0x1f, vcmpss: 0x1f, vcmpsd: 0x1f },
  ...{ vperm2f128: 0xbb, vperm2i128: 0xbb, vpermq: 0xff, vpermpd: 0xff },
  ...{ vinsertf128: 1, vinserti128: 1, vextractf128: 1, vextracti128: 1 },
};

export const decidingImmediates: Readonly<Record<string, number>> = {
  ...SSE,
  ...Object.fromEntries(Object.entries(SSE).map(([mnemonic, bits]) => [`v${mnemonic}`, bits])),
  ...AVX,
};
