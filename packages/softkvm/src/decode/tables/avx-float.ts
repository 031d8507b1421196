/** AVX and AVX2 on floats and F16C: VEX encodings (Intel SDM vol. 2, tables ). VEX.L does not matter for scalars. */
export const AVX_FLOAT = `
[vex.0f avx]
np.10 vmovups Vps,Wps
66.10 vmovupd Vpd,Wpd
f3.10 vmovss Vdq,Hdq,Uss
f3.10 vmovss.load Vss,Md
f2.10 vmovsd Vdq,Hdq,Usd
f2.10 vmovsd.load Vsd,Mq
np.11 vmovups Wps,Vps
66.11 vmovupd Wpd,Vpd
f3.11 vmovss Udq,Hdq,Vss
f3.11 vmovss.store Md,Vss
f2.11 vmovsd Udq,Hdq,Vsd
f2.11 vmovsd.store Mq,Vsd
np.12 vmovlps Vdq,Hdq,Mq l0
np.12 vmovhlps Vdq,Hdq,Udq l0
66.12 vmovlpd Vdq,Hdq,Mq l0
f3.12 vmovsldup Vps,Wps
f2.12 vmovddup Vdq,Wq l0
f2.12 vmovddup Vqq,Wqq l1
np.13 vmovlps.store Mq,Vq l0
66.13 vmovlpd.store Mq,Vq l0
np.14 vunpcklps Vps,Hps,Wps
66.14 vunpcklpd Vpd,Hpd,Wpd
np.15 vunpckhps Vps,Hps,Wps
66.15 vunpckhpd Vpd,Hpd,Wpd
np.16 vmovhps Vdq,Hdq,Mq l0
np.16 vmovlhps Vdq,Hdq,Udq l0
66.16 vmovhpd Vdq,Hdq,Mq l0
f3.16 vmovshdup Vps,Wps
np.17 vmovhps.store Mq,Vdq l0
66.17 vmovhpd.store Mq,Vdq l0
np.28 vmovaps Vps,Wps
66.28 vmovapd Vpd,Wpd
np.29 vmovaps Wps,Vps
66.29 vmovapd Wpd,Vpd
f3.2a vcvtsi2ss Vdq,Hdq,Ey
f2.2a vcvtsi2sd Vdq,Hdq,Ey
np.2b vmovntps Mps,Vps
66.2b vmovntpd Mpd,Vpd
f3.2c vcvttss2si Gy,Wss
f2.2c vcvttsd2si Gy,Wsd
f3.2d vcvtss2si Gy,Wss
f2.2d vcvtsd2si Gy,Wsd
np.2e vucomiss Vss,Wss
66.2e vucomisd Vsd,Wsd
np.2f vcomiss Vss,Wss
66.2f vcomisd Vsd,Wsd
np.50 vmovmskps Gy,Ups
66.50 vmovmskpd Gy,Upd
np.51 vsqrtps Vps,Wps
66.51 vsqrtpd Vpd,Wpd
f3.51 vsqrtss Vdq,Hdq,Wss
f2.51 vsqrtsd Vdq,Hdq,Wsd
np.52 vrsqrtps Vps,Wps
f3.52 vrsqrtss Vdq,Hdq,Wss
np.53 vrcpps Vps,Wps
f3.53 vrcpss Vdq,Hdq,Wss
np.54 vandps Vps,Hps,Wps
66.54 vandpd Vpd,Hpd,Wpd
np.55 vandnps Vps,Hps,Wps
66.55 vandnpd Vpd,Hpd,Wpd
np.56 vorps Vps,Hps,Wps
66.56 vorpd Vpd,Hpd,Wpd
np.57 vxorps Vps,Hps,Wps
66.57 vxorpd Vpd,Hpd,Wpd
np.58 vaddps Vps,Hps,Wps
66.58 vaddpd Vpd,Hpd,Wpd
f3.58 vaddss Vdq,Hdq,Wss
f2.58 vaddsd Vdq,Hdq,Wsd
np.59 vmulps Vps,Hps,Wps
66.59 vmulpd Vpd,Hpd,Wpd
f3.59 vmulss Vdq,Hdq,Wss
f2.59 vmulsd Vdq,Hdq,Wsd
np.5a vcvtps2pd Vpd,Wh
66.5a vcvtpd2ps Vdq,Wpd
f3.5a vcvtss2sd Vdq,Hdq,Wss
f2.5a vcvtsd2ss Vdq,Hdq,Wsd
np.5b vcvtdq2ps Vps,Wx
66.5b vcvtps2dq Vx,Wps
f3.5b vcvttps2dq Vx,Wps
np.5c vsubps Vps,Hps,Wps
66.5c vsubpd Vpd,Hpd,Wpd
f3.5c vsubss Vdq,Hdq,Wss
f2.5c vsubsd Vdq,Hdq,Wsd
np.5d vminps Vps,Hps,Wps
66.5d vminpd Vpd,Hpd,Wpd
f3.5d vminss Vdq,Hdq,Wss
f2.5d vminsd Vdq,Hdq,Wsd
np.5e vdivps Vps,Hps,Wps
66.5e vdivpd Vpd,Hpd,Wpd
f3.5e vdivss Vdq,Hdq,Wss
f2.5e vdivsd Vdq,Hdq,Wsd
np.5f vmaxps Vps,Hps,Wps
66.5f vmaxpd Vpd,Hpd,Wpd
f3.5f vmaxss Vdq,Hdq,Wss
f2.5f vmaxsd Vdq,Hdq,Wsd
np.77 vzeroupper l0
np.77 vzeroall l1
66.7c vhaddpd Vpd,Hpd,Wpd
f2.7c vhaddps Vps,Hps,Wps
66.7d vhsubpd Vpd,Hpd,Wpd
f2.7d vhsubps Vps,Hps,Wps
np.ae/2 vldmxcsr Md l0
np.ae/3 vstmxcsr Md l0
np.c2 vcmpps Vps,Hps,Wps,Ib
66.c2 vcmppd Vpd,Hpd,Wpd,Ib
f3.c2 vcmpss Vdq,Hdq,Wss,Ib
f2.c2 vcmpsd Vdq,Hdq,Wsd,Ib
np.c6 vshufps Vps,Hps,Wps,Ib
66.c6 vshufpd Vpd,Hpd,Wpd,Ib
66.d0 vaddsubpd Vpd,Hpd,Wpd
f2.d0 vaddsubps Vps,Hps,Wps
66.e6 vcvttpd2dq Vdq,Wpd
f3.e6 vcvtdq2pd Vpd,Wh
f2.e6 vcvtpd2dq Vdq,Wpd

[vex.0f38 avx]
66.0c vpermilps Vps,Hps,Wps w0
66.0d vpermilpd Vpd,Hpd,Wpd w0
66.0e vtestps Vps,Wps w0
66.0f vtestpd Vpd,Wpd w0
66.18 vbroadcastss Vps,Md w0
66.19 vbroadcastsd Vqq,Mq w0 l1
66.1a vbroadcastf128 Vqq,Mdq w0 l1
66.2c vmaskmovps Vps,Hps,Mps w0
66.2d vmaskmovpd Vpd,Hpd,Mpd w0
66.2e vmaskmovps.store Mps,Hps,Vps w0
66.2f vmaskmovpd.store Mpd,Hpd,Vpd w0
[vex.0f3a avx]
66.04 vpermilps Vps,Wps,Ib w0
66.05 vpermilpd Vpd,Wpd,Ib w0
66.06 vperm2f128 Vqq,Hqq,Wqq,Ib w0 l1
66.08 vroundps Vps,Wps,Ib
66.09 vroundpd Vpd,Wpd,Ib
66.0a vroundss Vdq,Hdq,Wss,Ib
66.0b vroundsd Vdq,Hdq,Wsd,Ib
66.0c vblendps Vps,Hps,Wps,Ib
66.0d vblendpd Vpd,Hpd,Wpd,Ib
66.17 vextractps Ed,Vdq,Ib l0
66.18 vinsertf128 Vqq,Hqq,Wdq,Ib w0 l1
66.19 vextractf128 Wdq,Vqq,Ib w0 l1
66.21 vinsertps Vdq,Hdq,Md,Ib l0
66.21 vinsertps Vdq,Hdq,Udq,Ib l0
66.40 vdpps Vps,Hps,Wps,Ib
66.41 vdppd Vdq,Hdq,Wdq,Ib l0
66.4a vblendvps Vps,Hps,Wps,Lps w0
66.4b vblendvpd Vpd,Hpd,Wpd,Lpd w0

[vex.0f38 avx2]
66.16 vpermps Vqq,Hqq,Wqq w0 l1
66.18 vbroadcastss Vps,Uss w0
66.19 vbroadcastsd Vqq,Usd w0 l1
[vex.0f3a avx2]
66.01 vpermpd Vqq,Wqq,Ib w1 l1

[vex.0f38 f16c]
66.13 vcvtph2ps Vps,Wh w0
[vex.0f3a f16c]
66.1d vcvtps2ph Wh,Vps,Ib w0
`;
