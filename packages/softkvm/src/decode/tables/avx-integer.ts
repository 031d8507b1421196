/**
 * AVX and AVX2 on integers, and AES and PCLMULQDQ with VEX (Intel SDM vol. 2, tables ). In `avx,avx2` sections
 * the 256-bit form came with AVX2.
 */
export const AVX_INTEGER = `
[vex.0f avx,avx2]
66.60 vpunpcklbw Vx,Hx,Wx
66.61 vpunpcklwd Vx,Hx,Wx
66.62 vpunpckldq Vx,Hx,Wx
66.63 vpacksswb Vx,Hx,Wx
66.64 vpcmpgtb Vx,Hx,Wx
66.65 vpcmpgtw Vx,Hx,Wx
66.66 vpcmpgtd Vx,Hx,Wx
66.67 vpackuswb Vx,Hx,Wx
66.68 vpunpckhbw Vx,Hx,Wx
66.69 vpunpckhwd Vx,Hx,Wx
66.6a vpunpckhdq Vx,Hx,Wx
66.6b vpackssdw Vx,Hx,Wx
66.6c vpunpcklqdq Vx,Hx,Wx
66.6d vpunpckhqdq Vx,Hx,Wx
66.70 vpshufd Vx,Wx,Ib
f3.70 vpshufhw Vx,Wx,Ib
f2.70 vpshuflw Vx,Wx,Ib
66.71/2 vpsrlw Hx,Ux,Ib
66.71/4 vpsraw Hx,Ux,Ib
66.71/6 vpsllw Hx,Ux,Ib
66.72/2 vpsrld Hx,Ux,Ib
66.72/4 vpsrad Hx,Ux,Ib
66.72/6 vpslld Hx,Ux,Ib
66.73/2 vpsrlq Hx,Ux,Ib
66.73/3 vpsrldq Hx,Ux,Ib
66.73/6 vpsllq Hx,Ux,Ib
66.73/7 vpslldq Hx,Ux,Ib
66.74 vpcmpeqb Vx,Hx,Wx
66.75 vpcmpeqw Vx,Hx,Wx
66.76 vpcmpeqd Vx,Hx,Wx
66.d1 vpsrlw Vx,Hx,Wdq
66.d2 vpsrld Vx,Hx,Wdq
66.d3 vpsrlq Vx,Hx,Wdq
66.d4 vpaddq Vx,Hx,Wx
66.d5 vpmullw Vx,Hx,Wx
66.d7 vpmovmskb Gy,Ux
66.d8 vpsubusb Vx,Hx,Wx
66.d9 vpsubusw Vx,Hx,Wx
66.da vpminub Vx,Hx,Wx
66.db vpand Vx,Hx,Wx
66.dc vpaddusb Vx,Hx,Wx
66.dd vpaddusw Vx,Hx,Wx
66.de vpmaxub Vx,Hx,Wx
66.df vpandn Vx,Hx,Wx
66.e0 vpavgb Vx,Hx,Wx
66.e1 vpsraw Vx,Hx,Wdq
66.e2 vpsrad Vx,Hx,Wdq
66.e3 vpavgw Vx,Hx,Wx
66.e4 vpmulhuw Vx,Hx,Wx
66.e5 vpmulhw Vx,Hx,Wx
66.e8 vpsubsb Vx,Hx,Wx
66.e9 vpsubsw Vx,Hx,Wx
66.ea vpminsw Vx,Hx,Wx
66.eb vpor Vx,Hx,Wx
66.ec vpaddsb Vx,Hx,Wx
66.ed vpaddsw Vx,Hx,Wx
66.ee vpmaxsw Vx,Hx,Wx
66.ef vpxor Vx,Hx,Wx
66.f1 vpsllw Vx,Hx,Wdq
66.f2 vpslld Vx,Hx,Wdq
66.f3 vpsllq Vx,Hx,Wdq
66.f4 vpmuludq Vx,Hx,Wx
66.f5 vpmaddwd Vx,Hx,Wx
66.f6 vpsadbw Vx,Hx,Wx
66.f8 vpsubb Vx,Hx,Wx
66.f9 vpsubw Vx,Hx,Wx
66.fa vpsubd Vx,Hx,Wx
66.fb vpsubq Vx,Hx,Wx
66.fc vpaddb Vx,Hx,Wx
66.fd vpaddw Vx,Hx,Wx
66.fe vpaddd Vx,Hx,Wx

[vex.0f avx]
66.6e vmovd Vdq,Ey l0
66.6f vmovdqa Vx,Wx
f3.6f vmovdqu Vx,Wx
66.7e vmovd Ey,Vdq l0
f3.7e vmovq Vdq,Wq l0
66.7f vmovdqa Wx,Vx
f3.7f vmovdqu Wx,Vx
66.c4 vpinsrw Vdq,Hdq,Mw,Ib l0
66.c4 vpinsrw Vdq,Hdq,Rd,Ib l0
66.c5 vpextrw Gd,Udq,Ib l0
66.d6 vmovq Mq,Vq l0
66.d6 vmovq Udq,Vq l0
66.e7 vmovntdq Mx,Vx
f2.f0 vlddqu Vx,Mx
66.f7 vmaskmovdqu BDdq,Vdq,Udq l0

[vex.0f38 avx,avx2]
66.00 vpshufb Vx,Hx,Wx
66.01 vphaddw Vx,Hx,Wx
66.02 vphaddd Vx,Hx,Wx
66.03 vphaddsw Vx,Hx,Wx
66.04 vpmaddubsw Vx,Hx,Wx
66.05 vphsubw Vx,Hx,Wx
66.06 vphsubd Vx,Hx,Wx
66.07 vphsubsw Vx,Hx,Wx
66.08 vpsignb Vx,Hx,Wx
66.09 vpsignw Vx,Hx,Wx
66.0a vpsignd Vx,Hx,Wx
66.0b vpmulhrsw Vx,Hx,Wx
66.1c vpabsb Vx,Wx
66.1d vpabsw Vx,Wx
66.1e vpabsd Vx,Wx
66.20 vpmovsxbw Vx,Wh
66.21 vpmovsxbd Vx,Wf
66.22 vpmovsxbq Vx,We
66.23 vpmovsxwd Vx,Wh
66.24 vpmovsxwq Vx,Wf
66.25 vpmovsxdq Vx,Wh
66.28 vpmuldq Vx,Hx,Wx
66.29 vpcmpeqq Vx,Hx,Wx
66.2a vmovntdqa Vx,Mx
66.2b vpackusdw Vx,Hx,Wx
66.30 vpmovzxbw Vx,Wh
66.31 vpmovzxbd Vx,Wf
66.32 vpmovzxbq Vx,We
66.33 vpmovzxwd Vx,Wh
66.34 vpmovzxwq Vx,Wf
66.35 vpmovzxdq Vx,Wh
66.37 vpcmpgtq Vx,Hx,Wx
66.38 vpminsb Vx,Hx,Wx
66.39 vpminsd Vx,Hx,Wx
66.3a vpminuw Vx,Hx,Wx
66.3b vpminud Vx,Hx,Wx
66.3c vpmaxsb Vx,Hx,Wx
66.3d vpmaxsd Vx,Hx,Wx
66.3e vpmaxuw Vx,Hx,Wx
66.3f vpmaxud Vx,Hx,Wx
66.40 vpmulld Vx,Hx,Wx
[vex.0f38 avx]
66.17 vptest Vx,Wx
66.41 vphminposuw Vdq,Wdq l0
[vex.0f3a avx,avx2]
66.0e vpblendw Vx,Hx,Wx,Ib
66.0f vpalignr Vx,Hx,Wx,Ib
66.42 vmpsadbw Vx,Hx,Wx,Ib
66.4c vpblendvb Vx,Hx,Wx,Lx w0
[vex.0f3a avx]
66.14 vpextrb Mb,Vdq,Ib l0
66.14 vpextrb Rd,Vdq,Ib l0
66.15 vpextrw Mw,Vdq,Ib l0
66.15 vpextrw Rd,Vdq,Ib l0
66.16 vpextrd Ey,Vdq,Ib l0
66.20 vpinsrb Vdq,Hdq,Mb,Ib l0
66.20 vpinsrb Vdq,Hdq,Rd,Ib l0
66.22 vpinsrd Vdq,Hdq,Ey,Ib l0
66.60 vpcmpestrm Vdq,Wdq,Ib l0
66.61 vpcmpestri Vdq,Wdq,Ib l0
66.62 vpcmpistrm Vdq,Wdq,Ib l0
66.63 vpcmpistri Vdq,Wdq,Ib l0
66.44 vpclmulqdq Vdq,Hdq,Wdq,Ib l0
66.df vaeskeygenassist Vdq,Wdq,Ib l0
[vex.0f38 avx]
66.db vaesimc Vdq,Wdq l0
66.dc vaesenc Vdq,Hdq,Wdq l0
66.dd vaesenclast Vdq,Hdq,Wdq l0
66.de vaesdec Vdq,Hdq,Wdq l0
66.df vaesdeclast Vdq,Hdq,Wdq l0

[vex.0f38 avx2]
66.36 vpermd Vqq,Hqq,Wqq w0 l1
66.45 vpsrlvd Vx,Hx,Wx w0
66.45 vpsrlvq Vx,Hx,Wx w1
66.46 vpsravd Vx,Hx,Wx w0
66.47 vpsllvd Vx,Hx,Wx w0
66.47 vpsllvq Vx,Hx,Wx w1
66.58 vpbroadcastd Vx,Wd w0
66.59 vpbroadcastq Vx,Wq w0
66.5a vbroadcasti128 Vqq,Mdq w0 l1
66.78 vpbroadcastb Vx,Wb w0
66.79 vpbroadcastw Vx,Ww w0
66.8c vpmaskmovd Vx,Hx,Mx w0
66.8c vpmaskmovq Vx,Hx,Mx w1
66.8e vpmaskmovd.store Mx,Hx,Vx w0
66.8e vpmaskmovq.store Mx,Hx,Vx w1
# The vector of indexes is as long as that of elements, or half, or double.
66.90 vpgatherdd Vx,Txd,Hx w0
66.90 vpgatherdq Vx,Toq,Hx w1
66.91 vpgatherqd Vdq,Txd,Hdq w0
66.91 vpgatherqq Vx,Txq,Hx w1
66.92 vgatherdps Vx,Txd,Hx w0
66.92 vgatherdpd Vx,Toq,Hx w1
66.93 vgatherqps Vdq,Txd,Hdq w0
66.93 vgatherqpd Vx,Txq,Hx w1
[vex.0f3a avx2]
66.00 vpermq Vqq,Wqq,Ib w1 l1
66.02 vpblendd Vx,Hx,Wx,Ib w0
66.38 vinserti128 Vqq,Hqq,Wdq,Ib w0 l1
66.39 vextracti128 Wdq,Vqq,Ib w0 l1
66.46 vperm2i128 Vqq,Hqq,Wqq,Ib w0 l1
`;
