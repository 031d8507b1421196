/**
 * SSE, SSE2 and SSE3 on floats (Intel SDM vol. 2, table A-3). A scalar load clears what it does not load (`.load`); a
 * scalar move between registers or to memory writes only its element.
 */
export const SSE_FLOAT = `
[0f sse]
np.10 movups Vps,Wps
f3.10 movss Vss,Uss
f3.10 movss.load Vss,Md
np.11 movups Wps,Vps
f3.11 movss Wss,Vss
np.12 movlps Vq,Mq
np.12 movhlps Vps,Ups
np.13 movlps Mq,Vq
np.14 unpcklps Vps,Wps
np.15 unpckhps Vps,Wps
np.16 movhps Vps,Mq
np.16 movlhps Vps,Ups
np.17 movhps Mq,Vps
np.28 movaps Vps,Wps
np.29 movaps Wps,Vps
f3.2a cvtsi2ss Vss,Ey
np.2b movntps Mps,Vps
f3.2c cvttss2si Gy,Wss
f3.2d cvtss2si Gy,Wss
np.2e ucomiss Vss,Wss
np.2f comiss Vss,Wss
np.50 movmskps Gy,Ups
np.51 sqrtps Vps,Wps
f3.51 sqrtss Vss,Wss
np.52 rsqrtps Vps,Wps
f3.52 rsqrtss Vss,Wss
np.53 rcpps Vps,Wps
f3.53 rcpss Vss,Wss
np.54 andps Vps,Wps
np.55 andnps Vps,Wps
np.56 orps Vps,Wps
np.57 xorps Vps,Wps
np.58 addps Vps,Wps
f3.58 addss Vss,Wss
np.59 mulps Vps,Wps
f3.59 mulss Vss,Wss
np.5c subps Vps,Wps
f3.5c subss Vss,Wss
np.5d minps Vps,Wps
f3.5d minss Vss,Wss
np.5e divps Vps,Wps
f3.5e divss Vss,Wss
np.5f maxps Vps,Wps
f3.5f maxss Vss,Wss
np.c2 cmpps Vps,Wps,Ib
f3.c2 cmpss Vss,Wss,Ib
np.c6 shufps Vps,Wps,Ib

[0f sse2]
66.10 movupd Vpd,Wpd
f2.10 movsd Vsd,Usd
f2.10 movsd.load Vsd,Mq
66.11 movupd Wpd,Vpd
f2.11 movsd Wsd,Vsd
66.12 movlpd Vq,Mq
66.13 movlpd Mq,Vq
66.14 unpcklpd Vpd,Wpd
66.15 unpckhpd Vpd,Wpd
66.16 movhpd Vpd,Mq
66.17 movhpd Mq,Vpd
66.28 movapd Vpd,Wpd
66.29 movapd Wpd,Vpd
f2.2a cvtsi2sd Vsd,Ey
66.2b movntpd Mpd,Vpd
f2.2c cvttsd2si Gy,Wsd
f2.2d cvtsd2si Gy,Wsd
66.2e ucomisd Vsd,Wsd
66.2f comisd Vsd,Wsd
66.50 movmskpd Gy,Upd
66.51 sqrtpd Vpd,Wpd
f2.51 sqrtsd Vsd,Wsd
66.54 andpd Vpd,Wpd
66.55 andnpd Vpd,Wpd
66.56 orpd Vpd,Wpd
66.57 xorpd Vpd,Wpd
66.58 addpd Vpd,Wpd
f2.58 addsd Vsd,Wsd
66.59 mulpd Vpd,Wpd
f2.59 mulsd Vsd,Wsd
np.5a cvtps2pd Vpd,Wq
66.5a cvtpd2ps Vps,Wpd
f3.5a cvtss2sd Vsd,Wss
f2.5a cvtsd2ss Vss,Wsd
np.5b cvtdq2ps Vps,Wdq
66.5b cvtps2dq Vdq,Wps
f3.5b cvttps2dq Vdq,Wps
66.5c subpd Vpd,Wpd
f2.5c subsd Vsd,Wsd
66.5d minpd Vpd,Wpd
f2.5d minsd Vsd,Wsd
66.5e divpd Vpd,Wpd
f2.5e divsd Vsd,Wsd
66.5f maxpd Vpd,Wpd
f2.5f maxsd Vsd,Wsd
66.c2 cmppd Vpd,Wpd,Ib
f2.c2 cmpsd Vsd,Wsd,Ib
66.c6 shufpd Vpd,Wpd,Ib
66.e6 cvttpd2dq Vdq,Wpd
f3.e6 cvtdq2pd Vpd,Wq
f2.e6 cvtpd2dq Vdq,Wpd

[0f pni]
f3.12 movsldup Vps,Wps
f2.12 movddup Vpd,Wq
f3.16 movshdup Vps,Wps
66.7c haddpd Vpd,Wpd
f2.7c haddps Vps,Wps
66.7d hsubpd Vpd,Wpd
f2.7d hsubps Vps,Wps
66.d0 addsubpd Vpd,Wpd
f2.d0 addsubps Vps,Wps
`;
