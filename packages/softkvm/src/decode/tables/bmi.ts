/** BMI1 and BMI2 (Intel SDM vol. 2, tables ). tzcnt, lzcnt and popcnt, which are not VEX, are in two-byte.ts. */
export const BMI = `
[vex.0f38 bmi1]
np.f2 andn Gy,By,Ey l0
np.f3/1 blsr By,Ey l0
np.f3/2 blsmsk By,Ey l0
np.f3/3 blsi By,Ey l0
np.f7 bextr Gy,Ey,By l0
[vex.0f38 bmi2]
np.f5 bzhi Gy,Ey,By l0
f3.f5 pext Gy,By,Ey l0
f2.f5 pdep Gy,By,Ey l0
f2.f6 mulx Gy,By,Ey l0
66.f7 shlx Gy,Ey,By l0
f3.f7 sarx Gy,Ey,By l0
f2.f7 shrx Gy,Ey,By l0
[vex.0f3a bmi2]
f2.f0 rorx Gy,Ey,Ib l0
`;
