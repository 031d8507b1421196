/** The guest's loops, in flat 32-bit code without paging. */
export const LOOPS = {
  "a jump to itself": [0xeb, 0xfe],
  // incl 0x8000; jmp
  "a loop that counts in memory": [0xff, 0x05, 0x00, 0x80, 0x00, 0x00, 0xeb, 0xf8],
  // mov $0x40000, %ecx; mov $0x10000, %esi; mov $0x80000, %edi; rep movsb; jmp
  "256 KiB copied by one instruction": [
    ...[0xb9, 0x00, 0x00, 0x04, 0x00, 0xbe, 0x00, 0x00, 0x01, 0x00, 0xbf, 0x00, 0x00, 0x08, 0x00, 0xf3, 0xa4],
    ...[0xeb, 0xed],
  ],
  // cpuid; jmp
  "an instruction that TypeScript does": [0x0f, 0xa2, 0xeb, 0xfc],
} as const;

/** Words that both threads share: how often the vCPU has stopped, and whether the next time is the last. */
export const Word = { stops: 0, last: 1, count: 2 } as const;
