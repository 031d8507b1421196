/** Opcodes without an escape byte (Intel SDM vol. 2, table A-2, and table A-6 for the groups). x87 is in x87.ts. */
export const ONE_BYTE = `
[one base]
00 add Eb,Gb lock
01 add Ev,Gv lock
02 add Gb,Eb
03 add Gv,Ev
04 add AL,Ib
05 add rAX,Iz
06 push.sreg ES i64
07 pop.sreg ES i64 ends
08 or Eb,Gb lock
09 or Ev,Gv lock
0a or Gb,Eb
0b or Gv,Ev
0c or AL,Ib
0d or rAX,Iz
0e push.sreg CS i64
10 adc Eb,Gb lock
11 adc Ev,Gv lock
12 adc Gb,Eb
13 adc Gv,Ev
14 adc AL,Ib
15 adc rAX,Iz
16 push.sreg SS i64
17 pop.sreg SS i64 ends
18 sbb Eb,Gb lock
19 sbb Ev,Gv lock
1a sbb Gb,Eb
1b sbb Gv,Ev
1c sbb AL,Ib
1d sbb rAX,Iz
1e push.sreg DS i64
1f pop.sreg DS i64 ends
20 and Eb,Gb lock
21 and Ev,Gv lock
22 and Gb,Eb
23 and Gv,Ev
24 and AL,Ib
25 and rAX,Iz
27 daa i64
28 sub Eb,Gb lock
29 sub Ev,Gv lock
2a sub Gb,Eb
2b sub Gv,Ev
2c sub AL,Ib
2d sub rAX,Iz
2f das i64
30 xor Eb,Gb lock
31 xor Ev,Gv lock
32 xor Gb,Eb
33 xor Gv,Ev
34 xor AL,Ib
35 xor rAX,Iz
37 aaa i64
38 cmp Eb,Gb
39 cmp Ev,Gv
3a cmp Gb,Eb
3b cmp Gv,Ev
3c cmp AL,Ib
3d cmp rAX,Iz
3f aas i64

# In 64-bit mode 40 to 4f are REX.
40+r inc Zv i64
48+r dec Zv i64
50+r push Zv d64
58+r pop Zv d64
60 pusha i64
61 popa i64
62 bound Gv,Ma i64
63 arpl Ew,Gw i64
63 movsxd Gv,Ez o64
68 push Iz d64
69 imul Gv,Ev,Iz
6a push sIb d64
6b imul Gv,Ev,sIb
6c ins Yb,DX iopl
6d ins Yz,DX iopl
6e outs DX,Xb iopl
6f outs DX,Xz iopl
70+cc jcc Jb f64 branch

80/0 add Eb,Ib lock
80/1 or Eb,Ib lock
80/2 adc Eb,Ib lock
80/3 sbb Eb,Ib lock
80/4 and Eb,Ib lock
80/5 sub Eb,Ib lock
80/6 xor Eb,Ib lock
80/7 cmp Eb,Ib
81/0 add Ev,Iz lock
81/1 or Ev,Iz lock
81/2 adc Ev,Iz lock
81/3 sbb Ev,Iz lock
81/4 and Ev,Iz lock
81/5 sub Ev,Iz lock
81/6 xor Ev,Iz lock
81/7 cmp Ev,Iz
# 82 is 80 again.
82/0 add Eb,Ib i64 lock
82/1 or Eb,Ib i64 lock
82/2 adc Eb,Ib i64 lock
82/3 sbb Eb,Ib i64 lock
82/4 and Eb,Ib i64 lock
82/5 sub Eb,Ib i64 lock
82/6 xor Eb,Ib i64 lock
82/7 cmp Eb,Ib i64
83/0 add Ev,sIb lock
83/1 or Ev,sIb lock
83/2 adc Ev,sIb lock
83/3 sbb Ev,sIb lock
83/4 and Ev,sIb lock
83/5 sub Ev,sIb lock
83/6 xor Ev,sIb lock
83/7 cmp Ev,sIb
84 test Eb,Gb
85 test Ev,Gv
86 xchg Eb,Gb lock
87 xchg Ev,Gv lock
88 mov Eb,Gb
89 mov Ev,Gv
8a mov Gb,Eb
8b mov Gv,Ev
8c mov.from-sreg Mw,Sw
8c mov.from-sreg Rv,Sw
8d lea Gv,M
8e/0 mov.to-sreg ES,Ew ends
8e/2 mov.to-sreg SS,Ew ends
8e/3 mov.to-sreg DS,Ew ends
8e/4 mov.to-sreg FS,Ew ends
8e/5 mov.to-sreg GS,Ew ends
8f/0 pop Ev d64

f3.90 pause
90 nop b0
90+r xchg Zv,rAX
# Sign extension of AL, AX or EAX by operand size; cwd into rDX.
98 cbw
99 cwd
9a callf Ap i64 far
9b fwait
9c pushf d64
9d popf d64
9e sahf
9f lahf
a0 mov AL,Ob
a1 mov rAX,Ov
a2 mov Ob,AL
a3 mov Ov,rAX
a4 movs Yb,Xb
a5 movs Yv,Xv
a6 cmps Xb,Yb
a7 cmps Xv,Yv
a8 test AL,Ib
a9 test rAX,Iz
aa stos Yb,AL
ab stos Yv,rAX
ac lods AL,Xb
ad lods rAX,Xv
ae scas AL,Yb
af scas rAX,Yv
b0+r mov Zb,Ib
b8+r mov Zv,Iv

c0/0 rol Eb,Ib
c0/1 ror Eb,Ib
c0/2 rcl Eb,Ib
c0/3 rcr Eb,Ib
c0/4 shl Eb,Ib
c0/5 shr Eb,Ib
c0/6 shl Eb,Ib
c0/7 sar Eb,Ib
c1/0 rol Ev,Ib
c1/1 ror Ev,Ib
c1/2 rcl Ev,Ib
c1/3 rcr Ev,Ib
c1/4 shl Ev,Ib
c1/5 shr Ev,Ib
c1/6 shl Ev,Ib
c1/7 sar Ev,Ib
c2 ret Iw f64 return
c3 ret f64 return
# In 64-bit mode, and with ModRM.mod 3 elsewhere, c4 and c5 are VEX.
c4 les Gz,Mp i64 ends
c5 lds Gz,Mp i64 ends
c6/0 mov Eb,Ib
c7/0 mov Ev,Iz
c8 enter Iw,Ib d64
c9 leave d64
ca retf Iw far
cb retf far
cc int3 trap
cd int Ib trap
ce into i64 trap
cf iret far
d0/0 rol Eb,1
d0/1 ror Eb,1
d0/2 rcl Eb,1
d0/3 rcr Eb,1
d0/4 shl Eb,1
d0/5 shr Eb,1
d0/6 shl Eb,1
d0/7 sar Eb,1
d1/0 rol Ev,1
d1/1 ror Ev,1
d1/2 rcl Ev,1
d1/3 rcr Ev,1
d1/4 shl Ev,1
d1/5 shr Ev,1
d1/6 shl Ev,1
d1/7 sar Ev,1
d2/0 rol Eb,CL
d2/1 ror Eb,CL
d2/2 rcl Eb,CL
d2/3 rcr Eb,CL
d2/4 shl Eb,CL
d2/5 shr Eb,CL
d2/6 shl Eb,CL
d2/7 sar Eb,CL
d3/0 rol Ev,CL
d3/1 ror Ev,CL
d3/2 rcl Ev,CL
d3/3 rcr Ev,CL
d3/4 shl Ev,CL
d3/5 shr Ev,CL
d3/6 shl Ev,CL
d3/7 sar Ev,CL
d4 aam Ib i64
d5 aad Ib i64
# Undocumented: AL becomes 0 or ff by the carry flag.
d6 salc i64
d7 xlat BBb

e0 loopne Jb f64 branch
e1 loope Jb f64 branch
e2 loop Jb f64 branch
e3 jcxz Jb f64 branch
e4 in AL,Ib iopl
e5 in eAX,Ib iopl
e6 out Ib,AL iopl
e7 out Ib,eAX iopl
e8 call Jz f64 call
e9 jmp Jz f64 jump
ea jmpf Ap i64 far
eb jmp Jb f64 jump
ec in AL,DX iopl
ed in eAX,DX iopl
ee out DX,AL iopl
ef out DX,eAX iopl
f1 icebp trap
f4 hlt kernel ends
f5 cmc
f6/0 test Eb,Ib
f6/1 test Eb,Ib
f6/2 not Eb lock
f6/3 neg Eb lock
f6/4 mul Eb
f6/5 imul.wide Eb
f6/6 div Eb
f6/7 idiv Eb
f7/0 test Ev,Iz
f7/1 test Ev,Iz
f7/2 not Ev lock
f7/3 neg Ev lock
f7/4 mul Ev
f7/5 imul.wide Ev
f7/6 div Ev
f7/7 idiv Ev
f8 clc
f9 stc
fa cli iopl
fb sti iopl
fc cld
fd std
fe/0 inc Eb lock
fe/1 dec Eb lock
ff/0 inc Ev lock
ff/1 dec Ev lock
ff/2 call Ev f64 call
ff/3 callf Mp far
ff/4 jmp Ev f64 jump
ff/5 jmpf Mp far
ff/6 push Ev d64
`;
