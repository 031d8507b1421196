/**
 * Where a vCPU's state lies in linear memory. It sits behind the guest's memory in the same WebAssembly memory, so that
 * compiled code reaches registers, lookaside buffers and guest memory alike. Offsets are from the vCPU's base, which is a
 * constant in the code compiled for it. Compiled code knows what is here and nothing else.
 */

export const State = {
  /** rax rcx rdx rbx rsp rbp rsi rdi r8 to r15, 64 bits each, in the order of their encoding. */
  gpr: 0x000,
  /** Always 0: the base or index that an address does not have. */
  zero: 0x080,
  /** The virtual address of the current block's first instruction; an instruction is this plus its offset. */
  blockRip: 0x088,

  /**
   * The six arithmetic flags, kept as what they follow from (the idea is Bochs's): the last result, sign-extended to 64
   * bits, and {@link Aux}.
   */
  flagResult: 0x090,
  flagAux: 0x098,
  /** All other bits of RFLAGS in their places: TF IF DF IOPL NT RF VM AC VIF VIP ID. Bit 1 is left out. */
  flagRest: 0x09c,

  /** Segment bases as addresses are computed: es cs ss ds fs gs. In long mode those of es, cs, ss and ds are 0. */
  segmentBase: 0x0a0,
  /** es cs ss ds fs gs ldt tr: 32 bytes each, see {@link SegmentField}. */
  segments: 0x0d0,

  gdtBase: 0x1d0,
  gdtLimit: 0x1d8,
  idtBase: 0x1e0,
  idtLimit: 0x1e8,
  cr0: 0x1f0,
  cr2: 0x1f8,
  cr3: 0x200,
  cr4: 0x208,
  efer: 0x210,
  xcr0: 0x218,
  /** The four PDPTEs of PAE paging, loaded with cr3. */
  pdpte: 0x220,
  /** DR0 to DR3, DR6, DR7. */
  dr: 0x240,

  /** The exception that the running instruction raised: see {@link Exception}. */
  faultVector: 0x280,
  faultError: 0x284,
  faultAddress: 0x288,

  /** The current privilege level. */
  cpl: 0x290,
  /** What the decoder and translator depend on: see {@link Mode}. */
  mode: 0x294,
  /** The lookaside buffer in force, as an address: one of {@link Tlb} banks. */
  tlb: 0x298,
  /** Not 0 for one instruction after STI or a load of SS. */
  interruptShadow: 0x29c,
  /** Branches until the vCPU looks around: for kicks, interrupts and timers. */
  budget: 0x2a0,
  /** Set by other threads, atomically: what the vCPU shall look at. */
  attention: 0x2a4,
  /** The interpreter's record of the instruction that left it. */
  record: 0x2a8,
  /** Where the interpreter wants to know the record that a branch leads to: the address of the record's field, or 0. */
  chain: 0x2ac,
  /** After `Return.OFTEN`: the region's slot, and the address from which it counts. */
  region: 0x2b0,
  regionBase: 0x2b8,
  /** Where the result of a slow load is handed over, and the value of a slow store. 32 bytes. */
  transfer: 0x2c0,
  /** Not 0 where WebAssembly may walk page tables and deliver page faults itself: see mmu/quick-walk.ts. */
  quick: 0x2e0,
  /** Where in linear memory the bits of the pages are that hold code: {@link MemoryMap.code}. */
  codeBits: 0x2e4,
  /** Of a page table's entry: the bits that must not be set, but for NX. */
  reservedBits: 0x2e8,
  /** How many entries of the lookaside buffers are listed: see {@link TlbList}. */
  tlbFilled: 0x2f0,
  /** The address space that jumps of ring 3 belong to: see `JumpCache`. */
  space: 0x2f4,
  /** What the guest's TSC is ahead of the machine's. */
  tscOffset: 0x2f8,

  /** For es cs ss ds fs gs the offsets that may be accessed, where segments are checked: see {@link SegmentRange}. */
  segmentRanges: 0x300,

  /** MSRs of SYSCALL and SWAPGS. */
  star: 0x360,
  lstar: 0x368,
  sfmask: 0x370,
  kernelGsBase: 0x378,
  /** The instruction that {@link interruptShadow} covers: elsewhere it is over. */
  shadowRip: 0x380,
  /** Where the processor is, when no block runs, and the instruction that runs: offsets in CS. */
  rip: 0x390,
  instructionRip: 0x398,
  /** Where in linear memory the table of interpreter/places.ts is; 0 for none. */
  places: 0x3a8,
  /** IA32_TSC_AUX. */
  tscAux: 0x3a0,
  /** How many of the listed entries of the lookaside buffers, from the first one on, are known to be global: see {@link TlbList}. */
  tlbSettled: 0x3b0,
  /** Not 0 when an interrupt or NMI may wait for the flags to let it through: as of the last look around. */
  eventWaits: 0x388,
  /** Not 0 between an NMI's delivery and the next IRET. */
  nmiMasked: 0x38c,

  /** A third vector for the vector unit, behind those in `transfer`. */
  third: 0x3f0,

  /** xmm0 to xmm15 with the upper halves of ymm0 to ymm15 behind: 32 bytes each. */
  vector: 0x400,
  mxcsr: 0x600,
  /** x87: control, status (without TOP), tag bits (1 = not empty), TOP. */
  fcw: 0x604,
  fsw: 0x608,
  ftw: 0x60c,
  ftop: 0x610,
  fop: 0x614,
  fip: 0x618,
  fdp: 0x620,
  /** The eight x87 registers by their physical number, 16 bytes each: 64 bits of significand, 16 of sign and exponent. */
  fpr: 0x640,

  /** Pieces of guest physical memory that quick walks know: see {@link Ram}. */
  ram: 0x700,

  /** Lookaside buffers: see {@link Tlb}. */
  tlbs: 0x1000,
} as const;

/** Plain memory as slots have it: from which guest physical address on, how much, and what to add to get the address in linear memory. */
export const Ram = { pieces: 4, size: 24, start: 0, length: 8, delta: 16 } as const;

/** Bits of `flagAux`: the carries that the flags follow from. */
export const Aux = {
  /** CF. */
  CARRY: 1 << 31,
  /** The carry into the top bit; OF is this XOR CARRY. */
  PARTIAL: 1 << 30,
  /** AF: the carry out of bit 3. */
  ADJUST: 1 << 3,
  /** SF is the result's sign XOR this. */
  SIGN_DELTA: 1 << 0,
  /** PF is the parity of the result's low byte XOR the byte at this position. */
  PARITY_SHIFT: 8,
} as const;

/** Segment register numbers, as instructions encode them; ldt and tr follow in {@link State.segments}. */
export const Seg = { ES: 0, CS: 1, SS: 2, DS: 3, FS: 4, GS: 5, LDT: 6, TR: 7 } as const;

/** A segment register in {@link State.segments}. */
export const SegmentField = {
  size: 32,
  base: 0,
  /** In bytes, granularity applied. */
  limit: 8,
  selector: 12,
  /** Bits 8 to 23 of the descriptor's upper half (type, S, DPL, P, AVL, L, D/B, G), and UNUSABLE. */
  attributes: 16,
} as const;

/** The first and last offset of a segment that may be read and that may be written; first above last for none. */
export const SegmentRange = { size: 16, readFirst: 0, readLast: 4, writeFirst: 8, writeLast: 12 } as const;

/** Bits of a segment's `attributes`. */
export const SegmentAttribute = {
  TYPE: 0x000f,
  S: 0x0010,
  DPL_SHIFT: 5,
  PRESENT: 0x0080,
  AVL: 0x1000,
  LONG: 0x2000,
  /** D of code, B of stacks. */
  DEFAULT_32: 0x4000,
  GRANULARITY: 0x8000,
  UNUSABLE: 0x10000,
} as const;

/** `faultVector` when there is none. */
export const NO_FAULT = -1;

/** Vectors (Intel SDM vol. 3, 6.3.1). */
export const Vector = {
  DE: 0,
  DB: 1,
  NMI: 2,
  BP: 3,
  OF: 4,
  BR: 5,
  UD: 6,
  NM: 7,
  DF: 8,
  TS: 10,
  NP: 11,
  SS: 12,
  GP: 13,
  PF: 14,
  MF: 16,
  AC: 17,
  MC: 18,
  XM: 19,
} as const;

/** Bits of `mode`: code decoded under one mode is not used under another. */
export const Mode = {
  /** Code size: 0 for 16 bits, 1 for 32, 2 for 64. */
  BITS: 0x3,
  /** The stack pointer has 32 bits. Not set in 64-bit code, where it always has 64. */
  STACK_32: 0x4,
  /** All data segments reach everything from 0: no limit is checked, no base added (but those of fs and gs). */
  FLAT: 0x8,
  /** Ring 3. */
  USER: 0x10,
  /** CR0.PE with RFLAGS.VM: virtual-8086. */
  VM86: 0x20,
  /** CR0.PE. */
  PROTECTED: 0x40,
  /** CR0.EM or TS is set: SIMD and x87 instructions raise exceptions. */
  NO_FPU: 0x80,
  /** EFER.LMA. */
  LONG: 0x100,
  /** CR4.OSFXSR is not set: instructions on xmm registers are #UD. */
  NO_SSE: 0x200,
  /** CR4.OSXSAVE or XCR0's bits of SSE and AVX are not set: AVX is #UD. */
  NO_AVX: 0x400,
  /** CR4.SMAP is not set: the supervisor's view of memory is one, whatever RFLAGS.AC is. */
  NO_SMAP: 0x800,
} as const;

/**
 * A software lookaside buffer: for each access kind a direct-mapped table of 16-byte entries: the virtual page as 64 bits
 * (when empty, one that belongs in another entry), then what to add to the low 32 bits of a virtual address to get the address in linear memory.
 * There is one bank for each view of memory, so that a switch between them flushes nothing.
 */
export const Tlb = {
  entries: 1024,
  entrySize: 16,
  tag: 0,
  addend: 8,
  /** From a bank's start. */
  read: 0,
  write: 1024 * 16,
  bankSize: 2 * 1024 * 16,
  /** Banks: supervisor (SMAP in force), user, supervisor with access to user pages (AC set or no SMAP). */
  SUPERVISOR: 0,
  USER: 1,
  SUPERVISOR_AC: 2,
  banks: 3,
  /**
   * Bits of the low word of an empty entry's tag. Compiled code looks at the tag's upper bits, which are of another entry.
   * One that INVLPG has emptied is listed still.
   */
  EMPTY: 1,
  LISTED: 2,
} as const;

const TLB_SLOTS = Tlb.banks * 2 * Tlb.entries;

/** What is known of the entries of the lookaside buffers, by their number from the first bank on. */
export const TlbList = {
  /** The numbers of those in use, each once, in 16 bits each. */
  filled: State.tlbs + Tlb.banks * Tlb.bankSize,
  /** A byte each: 2 to this power is the size of the page that it was filled from, plus `GLOBAL`. */
  kinds: State.tlbs + Tlb.banks * Tlb.bankSize + TLB_SLOTS * 2,
  GLOBAL: 0x80,
  slots: TLB_SLOTS,
} as const;

/**
 * Which translations INVLPG has more to forget of than the entries of one 4 KiB page: a byte for each piece of the address
 * space, by the address's lower bits; not 0 where that may be so.
 */
export const Translated = {
  entries: 8192,
  /** Pages of 4 KiB that jumps lead to. */
  code: TlbList.kinds + TLB_SLOTS,
  codeShift: 12,
  /** Pieces of 2 MiB of larger pages, in the lookaside buffers or with code. */
  large: TlbList.kinds + TLB_SLOTS + 8192,
  largeShift: 21,
} as const;

/** The end of what {@link State} and the buffers take. */
export const STATE_SIZE = Translated.large + Translated.entries;
