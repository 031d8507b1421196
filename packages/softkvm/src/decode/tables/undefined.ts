/**
 * The length of what no other table has. Processors find out where an instruction ends before whether there is one: #UD
 * comes only when ModRM, displacement and immediate could be fetched. Measured on an Intel processor; opcodes that are
 * missing here are #UD at once.
 */
export const UNDEFINED = `
[one base]
62 (bad) E
82 (bad) E,Ib o64
8c (bad) E
8d-8f (bad) E
9a (bad) Ap o64
c4 (bad) E
c6 (bad) E,Ib
c7 (bad) E,Iz
d4-d5 (bad) Ib o64
d8-df (bad) E
ea (bad) Ap o64
fe-ff (bad) E

[0f base]
00-03 (bad) E
0d (bad) E
10-1f (bad) E
20-23 (bad) E anymod
28-2f (bad) E
40-6f (bad) E
70-73 (bad) E,Ib
74-76 (bad) E
78-7f (bad) E
a3 (bad) E
a4 (bad) E,Ib
a5 (bad) E
a6-a7 (bad) E
ab (bad) E
ac (bad) E,Ib
ad-b9 (bad) E
ba (bad) E,Ib
bb-c1 (bad) E
c2 (bad) E,Ib
c3 (bad) E
c4-c6 (bad) E,Ib
c7 (bad) E
d0-ff (bad) E

[0f38 base]
00-ff (bad) E
[0f3a base]
00-ff (bad) E,Ib

[vex.0f base]
np,66,f3,f2.00-03 (bad) E
np,66,f3,f2.0d (bad) E
np,66,f3,f2.10-1f (bad) E
np,66,f3,f2.20-23 (bad) E anymod
np,66,f3,f2.28-2f (bad) E
np,66,f3,f2.40-6f (bad) E
np,66,f3,f2.70-73 (bad) E,Ib
np,66,f3,f2.74-76 (bad) E
np,66,f3,f2.78-7f (bad) E
np,66,f3,f2.80-8f (bad) Jz f64
np,66,f3,f2.90-9f (bad) E
np,66,f3,f2.a3 (bad) E
np,66,f3,f2.a4 (bad) E,Ib
np,66,f3,f2.a5-a7 (bad) E
np,66,f3,f2.ab (bad) E
np,66,f3,f2.ac (bad) E,Ib
np,66,f3,f2.ad-b9 (bad) E
np,66,f3,f2.ba (bad) E,Ib
np,66,f3,f2.bb-c1 (bad) E
np,66,f3,f2.c2 (bad) E,Ib
np,66,f3,f2.c3 (bad) E
np,66,f3,f2.c4-c6 (bad) E,Ib
np,66,f3,f2.c7 (bad) E
np,66,f3,f2.d0-ff (bad) E
[vex.0f38 base]
np,66,f3,f2.00-ff (bad) E
[vex.0f3a base]
np,66,f3,f2.00-ff (bad) E,Ib
`;
