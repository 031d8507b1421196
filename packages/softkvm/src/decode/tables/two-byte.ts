/** Integer and system opcodes after 0F (Intel SDM vol. 2, table A-3, and table A-6 for the groups). */
export const TWO_BYTE = `
[0f base]
00/0 sldt Mw umip
00/0 sldt Rv umip
00/1 str Mw umip
00/1 str Rv umip
00/2 lldt Ew kernel ends
00/3 ltr Ew kernel
00/4 verr Ew
00/5 verw Ew
01:c1 vmcall trap
01:d9 vmmcall trap
01:f8 swapgs o64 kernel
01/0 sgdt Ms umip
01/1 sidt Ms umip
01/2 lgdt Ms kernel ends
01/3 lidt Ms kernel ends
01/4 smsw Mw umip
01/4 smsw Rv umip
01/6 lmsw Ew kernel ends
01/7 invlpg M kernel
02 lar Gv,Ew
03 lsl Gv,Ew
05 syscall trap
06 clts kernel ends
07 sysret kernel far
08 invd kernel
09 wbinvd kernel
0b ud2 trap
0d nop Ev
# Prefetches and hints. What newer processors gave a meaning (MPX, CET) is a nop on those that lack it.
18 nop Ev
19 nop Ev
1a nop Ev
1b nop Ev
1c nop Ev
1d nop Ev
1e nop Ev
1f nop Ev
20 mov.from-cr Rn,Cn kernel anymod
21 mov.from-dr Rn,Dn kernel anymod
22 mov.to-cr Cn,Rn kernel anymod ends
23 mov.to-dr Dn,Rn kernel anymod ends
30 wrmsr kernel ends
31 rdtsc
32 rdmsr kernel
33 rdpmc
34 sysenter far
35 sysexit kernel far
40+cc cmovcc Gv,Ev
80+cc jcc Jz f64 branch
90+cc setcc Eb
a0 push.sreg FS d64
a1 pop.sreg FS d64 ends
a2 cpuid
a3 bt Ev,Gv
a4 shld Ev,Gv,Ib
a5 shld Ev,Gv,CL
a8 push.sreg GS d64
a9 pop.sreg GS d64 ends
# Outside system management mode #UD.
aa rsm kernel far
ab bts Ev,Gv lock
ac shrd Ev,Gv,Ib
ad shrd Ev,Gv,CL
af imul Gv,Ev
b0 cmpxchg Eb,Gb lock
b1 cmpxchg Ev,Gv lock
b2 lss Gv,Mp ends
b3 btr Ev,Gv lock
b4 lfs Gv,Mp ends
b5 lgs Gv,Mp ends
b6 movzx Gv,Eb
b7 movzx Gv,Ew
b9 ud1 Gv,Ev trap
ba/4 bt Ev,Ib
ba/5 bts Ev,Ib lock
ba/6 btr Ev,Ib lock
ba/7 btc Ev,Ib lock
bb btc Ev,Gv lock
be movsx Gv,Eb
bf movsx Gv,Ew
c0 xadd Eb,Gb lock
c1 xadd Ev,Gv lock
c7/1 cmpxchg8b Mq lock w0
c8+r bswap Zv
ff ud0 Gv,Ev trap

[0f cx16]
c7/1 cmpxchg16b Mdq lock w1

# Where a feature is missing, the same encoding falls through to the older instruction below.
[0f popcnt]
f3.b8 popcnt Gv,Ev
[0f bmi1]
f3.bc tzcnt Gv,Ev
[0f abm]
f3.bd lzcnt Gv,Ev
[0f base]
bc bsf Gv,Ev
bd bsr Gv,Ev

[0f monitor]
np.01:c8 monitor BA kernel
np.01:c9 mwait kernel ends
[0f smap]
np.01:ca clac kernel
np.01:cb stac kernel
[0f xsave]
np.01:d0 xgetbv
np.01:d1 xsetbv kernel ends
np.ae/4 xsave M
np.ae/5 xrstor M ends
[0f xsaveopt]
np.ae/6 xsaveopt M
[0f xsavec]
np.c7/4 xsavec M
[0f xsaves]
np.c7/3 xrstors M kernel ends
np.c7/5 xsaves M kernel
[0f rdtscp]
01:f9 rdtscp

[0f fxsr]
np.ae/0 fxsave M
np.ae/1 fxrstor M ends
[0f sse]
np.ae/2 ldmxcsr Md
np.ae/3 stmxcsr Md
np.ae/7 sfence reg
[0f sse2]
np.ae/5 lfence reg
np.ae/6 mfence reg
np.c3 movnti My,Gy
[0f clflush]
np.ae/7 clflush M
[0f clflushopt]
66.ae/7 clflushopt M
[0f clwb]
66.ae/6 clwb M
[0f fsgsbase]
f3.ae/0 rdfsbase Ry o64
f3.ae/1 rdgsbase Ry o64
f3.ae/2 wrfsbase Ry o64
f3.ae/3 wrgsbase Ry o64
[0f rdrand]
np,66.c7/6 rdrand Rv
[0f rdseed]
np,66.c7/7 rdseed Rv
[0f rdpid]
f3.c7/7 rdpid Rn

[0f38 movbe]
np,66.f0 movbe Gv,Mv
np,66.f1 movbe Mv,Gv
[0f38 sse4_2]
f2.f0 crc32 Gy,Eb
f2.f1 crc32 Gy,Ev
[0f38 adx]
66.f6 adcx Gy,Ey
f3.f6 adox Gy,Ey
[0f38 invpcid]
66.82 invpcid Gn,Mdq kernel ends
`;
