/** SSSE3, SSE4, AES, PCLMULQDQ and SHA on xmm registers (Intel SDM vol. 2, tables ). */
export const SSE4 = `
[0f38 ssse3]
66.00 pshufb Vdq,Wdq
66.01 phaddw Vdq,Wdq
66.02 phaddd Vdq,Wdq
66.03 phaddsw Vdq,Wdq
66.04 pmaddubsw Vdq,Wdq
66.05 phsubw Vdq,Wdq
66.06 phsubd Vdq,Wdq
66.07 phsubsw Vdq,Wdq
66.08 psignb Vdq,Wdq
66.09 psignw Vdq,Wdq
66.0a psignd Vdq,Wdq
66.0b pmulhrsw Vdq,Wdq
66.1c pabsb Vdq,Wdq
66.1d pabsw Vdq,Wdq
66.1e pabsd Vdq,Wdq
[0f3a ssse3]
66.0f palignr Vdq,Wdq,Ib

[0f38 sse4_1]
66.10 pblendvb Vdq,Wdq,XMM0
66.14 blendvps Vps,Wps,XMM0
66.15 blendvpd Vpd,Wpd,XMM0
66.17 ptest Vdq,Wdq
66.20 pmovsxbw Vdq,Wq
66.21 pmovsxbd Vdq,Wd
66.22 pmovsxbq Vdq,Ww
66.23 pmovsxwd Vdq,Wq
66.24 pmovsxwq Vdq,Wd
66.25 pmovsxdq Vdq,Wq
66.28 pmuldq Vdq,Wdq
66.29 pcmpeqq Vdq,Wdq
66.2a movntdqa Vdq,Mdq
66.2b packusdw Vdq,Wdq
66.30 pmovzxbw Vdq,Wq
66.31 pmovzxbd Vdq,Wd
66.32 pmovzxbq Vdq,Ww
66.33 pmovzxwd Vdq,Wq
66.34 pmovzxwq Vdq,Wd
66.35 pmovzxdq Vdq,Wq
66.38 pminsb Vdq,Wdq
66.39 pminsd Vdq,Wdq
66.3a pminuw Vdq,Wdq
66.3b pminud Vdq,Wdq
66.3c pmaxsb Vdq,Wdq
66.3d pmaxsd Vdq,Wdq
66.3e pmaxuw Vdq,Wdq
66.3f pmaxud Vdq,Wdq
66.40 pmulld Vdq,Wdq
66.41 phminposuw Vdq,Wdq
[0f3a sse4_1]
66.08 roundps Vps,Wps,Ib
66.09 roundpd Vpd,Wpd,Ib
66.0a roundss Vss,Wss,Ib
66.0b roundsd Vsd,Wsd,Ib
66.0c blendps Vps,Wps,Ib
66.0d blendpd Vpd,Wpd,Ib
66.0e pblendw Vdq,Wdq,Ib
66.14 pextrb Mb,Vdq,Ib
66.14 pextrb Rd,Vdq,Ib
66.15 pextrw Mw,Vdq,Ib
66.15 pextrw Rd,Vdq,Ib
66.16 pextrd Ey,Vdq,Ib
66.17 extractps Ed,Vps,Ib
66.20 pinsrb Vdq,Mb,Ib
66.20 pinsrb Vdq,Rd,Ib
66.21 insertps Vps,Md,Ib
66.21 insertps Vps,Ups,Ib
66.22 pinsrd Vdq,Ey,Ib
66.40 dpps Vps,Wps,Ib
66.41 dppd Vpd,Wpd,Ib
66.42 mpsadbw Vdq,Wdq,Ib

[0f38 sse4_2]
66.37 pcmpgtq Vdq,Wdq
[0f3a sse4_2]
66.60 pcmpestrm Vdq,Wdq,Ib
66.61 pcmpestri Vdq,Wdq,Ib
66.62 pcmpistrm Vdq,Wdq,Ib
66.63 pcmpistri Vdq,Wdq,Ib

[0f3a pclmulqdq]
66.44 pclmulqdq Vdq,Wdq,Ib

[0f38 aes]
66.db aesimc Vdq,Wdq
66.dc aesenc Vdq,Wdq
66.dd aesenclast Vdq,Wdq
66.de aesdec Vdq,Wdq
66.df aesdeclast Vdq,Wdq
[0f3a aes]
66.df aeskeygenassist Vdq,Wdq,Ib

[0f38 sha_ni]
np.c8 sha1nexte Vdq,Wdq
np.c9 sha1msg1 Vdq,Wdq
np.ca sha1msg2 Vdq,Wdq
np.cb sha256rnds2 Vdq,Wdq,XMM0
np.cc sha256msg1 Vdq,Wdq
np.cd sha256msg2 Vdq,Wdq
[0f3a sha_ni]
np.cc sha1rnds4 Vdq,Wdq,Ib
`;
