/**
 * x87 (Intel SDM vol. 2, appendix A.5, and 8.3 of vol. 1 for the encodings that stand for others). ST is written as an
 * operand wherever it takes part, though assemblers leave it out; a memory operand's size and the mnemonic's `i` or `b`
 * say what it holds. Without the `wait` that some assembler names include, which is the instruction 9b.
 */
export const X87 = `
[one fpu]
d8/0 fadd ST,Md
d8/1 fmul ST,Md
d8/2 fcom ST,Md
d8/3 fcomp ST,Md
d8/4 fsub ST,Md
d8/5 fsubr ST,Md
d8/6 fdiv ST,Md
d8/7 fdivr ST,Md
d8/0 fadd ST,STi
d8/1 fmul ST,STi
d8/2 fcom ST,STi
d8/3 fcomp ST,STi
d8/4 fsub ST,STi
d8/5 fsubr ST,STi
d8/6 fdiv ST,STi
d8/7 fdivr ST,STi

d9/0 fld Md
d9/2 fst Md
d9/3 fstp Md
d9/4 fldenv Menv
d9/5 fldcw Mw
d9/6 fnstenv Menv
d9/7 fnstcw Mw
d9/0 fld STi
d9/1 fxch ST,STi
d9:d0 fnop
# Like dd/3, but an empty ST is no underflow.
d9/3 fstp.empty STi
d9:e0 fchs
d9:e1 fabs
d9:e4 ftst
d9:e5 fxam
d9:e8 fld1
d9:e9 fldl2t
d9:ea fldl2e
d9:eb fldpi
d9:ec fldlg2
d9:ed fldln2
d9:ee fldz
d9:f0 f2xm1
d9:f1 fyl2x
d9:f2 fptan
d9:f3 fpatan
d9:f4 fxtract
d9:f5 fprem1
d9:f6 fdecstp
d9:f7 fincstp
d9:f8 fprem
d9:f9 fyl2xp1
d9:fa fsqrt
d9:fb fsincos
d9:fc frndint
d9:fd fscale
d9:fe fsin
d9:ff fcos

da/0 fiadd ST,Md
da/1 fimul ST,Md
da/2 ficom ST,Md
da/3 ficomp ST,Md
da/4 fisub ST,Md
da/5 fisubr ST,Md
da/6 fidiv ST,Md
da/7 fidivr ST,Md
# Conditions: below, equal, below or equal, parity (unordered); db has their opposites.
da/0 fcmovcc.2 ST,STi
da/1 fcmovcc.4 ST,STi
da/2 fcmovcc.6 ST,STi
da/3 fcmovcc.10 ST,STi
da:e9 fucompp

db/0 fild Md
db/1 fisttp Md
db/2 fist Md
db/3 fistp Md
db/5 fld Mt
db/7 fstp Mt
db/0 fcmovcc.3 ST,STi
db/1 fcmovcc.5 ST,STi
db/2 fcmovcc.7 ST,STi
db/3 fcmovcc.11 ST,STi
# Did something on an 8087 or 287.
db:e0 fnop
db:e1 fnop
db:e4 fnop
db:e2 fnclex
db:e3 fninit
db/5 fucomi ST,STi
db/6 fcomi ST,STi

dc/0 fadd ST,Mq
dc/1 fmul ST,Mq
dc/2 fcom ST,Mq
dc/3 fcomp ST,Mq
dc/4 fsub ST,Mq
dc/5 fsubr ST,Mq
dc/6 fdiv ST,Mq
dc/7 fdivr ST,Mq
dc/0 fadd STi,ST
dc/1 fmul STi,ST
dc/2 fcom ST,STi
dc/3 fcomp ST,STi
dc/4 fsubr STi,ST
dc/5 fsub STi,ST
dc/6 fdivr STi,ST
dc/7 fdiv STi,ST

dd/0 fld Mq
dd/1 fisttp Mq
dd/2 fst Mq
dd/3 fstp Mq
dd/4 frstor Msta
dd/6 fnsave Msta
dd/7 fnstsw Mw
dd/0 ffree STi
dd/1 fxch ST,STi
dd/2 fst STi
dd/3 fstp STi
dd/4 fucom ST,STi
dd/5 fucomp ST,STi

de/0 fiadd ST,Mw
de/1 fimul ST,Mw
de/2 ficom ST,Mw
de/3 ficomp ST,Mw
de/4 fisub ST,Mw
de/5 fisubr ST,Mw
de/6 fidiv ST,Mw
de/7 fidivr ST,Mw
de/0 faddp STi,ST
de/1 fmulp STi,ST
de/2 fcomp ST,STi
de:d9 fcompp
de/4 fsubrp STi,ST
de/5 fsubp STi,ST
de/6 fdivrp STi,ST
de/7 fdivp STi,ST

df/0 fild Mw
df/1 fisttp Mw
df/2 fist Mw
df/3 fistp Mw
df/4 fbld Mt
df/5 fild Mq
df/6 fbstp Mt
df/7 fistp Mq
# ffree, then pop.
df/0 ffreep STi
df/1 fxch ST,STi
df/2 fstp STi
df/3 fstp STi
df:e0 fnstsw AX
df/5 fucomip ST,STi
df/6 fcomip ST,STi
`;
