/**
 * MMX, and what later extensions added for mm registers (Intel SDM vol. 2, table A-3). The same mnemonic with xmm operands
 * is in sse-integer.ts and sse4.ts.
 */
export const MMX = `
[0f mmx]
np.60 punpcklbw Pq,Qd
np.61 punpcklwd Pq,Qd
np.62 punpckldq Pq,Qd
np.63 packsswb Pq,Qq
np.64 pcmpgtb Pq,Qq
np.65 pcmpgtw Pq,Qq
np.66 pcmpgtd Pq,Qq
np.67 packuswb Pq,Qq
np.68 punpckhbw Pq,Qq
np.69 punpckhwd Pq,Qq
np.6a punpckhdq Pq,Qq
np.6b packssdw Pq,Qq
np.6e movd Pq,Ey
np.6f movq Pq,Qq
np.71/2 psrlw Nq,Ib
np.71/4 psraw Nq,Ib
np.71/6 psllw Nq,Ib
np.72/2 psrld Nq,Ib
np.72/4 psrad Nq,Ib
np.72/6 pslld Nq,Ib
np.73/2 psrlq Nq,Ib
np.73/6 psllq Nq,Ib
np.74 pcmpeqb Pq,Qq
np.75 pcmpeqw Pq,Qq
np.76 pcmpeqd Pq,Qq
np.77 emms
np.7e movd Ey,Pq
np.7f movq Qq,Pq
np.d1 psrlw Pq,Qq
np.d2 psrld Pq,Qq
np.d3 psrlq Pq,Qq
np.d5 pmullw Pq,Qq
np.d8 psubusb Pq,Qq
np.d9 psubusw Pq,Qq
np.db pand Pq,Qq
np.dc paddusb Pq,Qq
np.dd paddusw Pq,Qq
np.df pandn Pq,Qq
np.e1 psraw Pq,Qq
np.e2 psrad Pq,Qq
np.e5 pmulhw Pq,Qq
np.e8 psubsb Pq,Qq
np.e9 psubsw Pq,Qq
np.eb por Pq,Qq
np.ec paddsb Pq,Qq
np.ed paddsw Pq,Qq
np.ef pxor Pq,Qq
np.f1 psllw Pq,Qq
np.f2 pslld Pq,Qq
np.f3 psllq Pq,Qq
np.f5 pmaddwd Pq,Qq
np.f8 psubb Pq,Qq
np.f9 psubw Pq,Qq
np.fa psubd Pq,Qq
np.fc paddb Pq,Qq
np.fd paddw Pq,Qq
np.fe paddd Pq,Qq

[0f sse]
np.70 pshufw Pq,Qq,Ib
np.c4 pinsrw Pq,Mw,Ib
np.c4 pinsrw Pq,Rd,Ib
np.c5 pextrw Gd,Nq,Ib
np.d7 pmovmskb Gy,Nq
np.da pminub Pq,Qq
np.de pmaxub Pq,Qq
np.e0 pavgb Pq,Qq
np.e3 pavgw Pq,Qq
np.e4 pmulhuw Pq,Qq
np.e7 movntq Mq,Pq
np.ea pminsw Pq,Qq
np.ee pmaxsw Pq,Qq
np.f6 psadbw Pq,Qq
np.f7 maskmovq BDq,Pq,Nq
np.2a cvtpi2ps Vps,Qq
np.2c cvttps2pi Pq,Wq
np.2d cvtps2pi Pq,Wq

[0f sse2]
66.2a cvtpi2pd Vpd,Qq
66.2c cvttpd2pi Pq,Wpd
66.2d cvtpd2pi Pq,Wpd
np.d4 paddq Pq,Qq
np.f4 pmuludq Pq,Qq
np.fb psubq Pq,Qq
f3.d6 movq2dq Vdq,Nq
f2.d6 movdq2q Pq,Uq

[0f38 ssse3]
np.00 pshufb Pq,Qq
np.01 phaddw Pq,Qq
np.02 phaddd Pq,Qq
np.03 phaddsw Pq,Qq
np.04 pmaddubsw Pq,Qq
np.05 phsubw Pq,Qq
np.06 phsubd Pq,Qq
np.07 phsubsw Pq,Qq
np.08 psignb Pq,Qq
np.09 psignw Pq,Qq
np.0a psignd Pq,Qq
np.0b pmulhrsw Pq,Qq
np.1c pabsb Pq,Qq
np.1d pabsw Pq,Qq
np.1e pabsd Pq,Qq
[0f3a ssse3]
np.0f palignr Pq,Qq,Ib
`;
