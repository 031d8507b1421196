/**
 * Where the interrupt hardware of one machine lies in shared memory: 32-bit words from the start of the area. Every
 * thread of the machine makes its own objects over the same words; no state lives anywhere else.
 */

/** KVM_IOAPIC_NUM_PINS, and the pins of both 8259As. */
export const IOAPIC_PINS = 24;
export const PIC_PINS = 16;
/** KVM_MAX_IRQ_ROUTES: GSIs are below this. */
export const MAX_GSIS = 4096;

/** Hands out consecutive words. Times are 64-bit floats, so what has an even number of words begins at an even one. */
function sequence<const F extends Record<string, number>>(start: number, sizes: F): Record<keyof F | "end", number> {
  const words: Record<string, number> = {};
  let next = start;
  for (const [name, size] of Object.entries(sizes)) {
    if (size % 2 === 0) next += next % 2;
    words[name] = next;
    next += size;
  }
  words.end = next + (next % 2);
  return words as Record<keyof F | "end", number>;
}

/** Nanoseconds of the machine's clock as a float: two words, read through {@link SharedArea.times}. */
const TIME = 2;

export const Vm = sequence(0, {
  /** Guards everything here but the local APICs and the words said to be read without it. */
  lock: 1,
  /** {@link IrqchipMode}. */
  mode: 1,
  /** Split chip: the GSIs below this are the pins of the monitor's IOAPIC. */
  reservedPins: 1,
  /** Slots that hold a local APIC. Grows only; written with the lock held, read without. */
  apicCount: 1,
  /** KVM_X2APIC_API_USE_32BIT_IDS and _DISABLE_BROADCAST_QUIRK (api.rst 7.6). */
  x2apicApi: 1,
  /** Nanoseconds of one cycle of the APIC timer's clock (api.rst 7.37). */
  busCycleNs: 1,
  /** The APIC id of the processor that starts by itself (api.rst 4.41). */
  bootId: 1,
});

/** What has interrupt chips: nobody, the hypervisor, or the hypervisor only local APICs. */
export const IrqchipMode = { NONE: 0, FULL: 1, SPLIT: 2 } as const;

/** One 8259A. The first 16 words are `kvm_pic_state`'s bytes in its order. */
const PicChip = sequence(0, {
  lastIrr: 1,
  irr: 1,
  imr: 1,
  isr: 1,
  priorityAdd: 1,
  irqBase: 1,
  readRegSelect: 1,
  poll: 1,
  specialMask: 1,
  initState: 1,
  autoEoi: 1,
  rotateOnAutoEoi: 1,
  specialFullyNestedMode: 1,
  init4: 1,
  elcr: 1,
  elcrMask: 1,
});
export const PicWord = PicChip;

export const Pic = sequence(Vm.end, {
  chips: 2 * PicChip.end,
  /** The wire to the processor; read without the lock. */
  output: 1,
  /** For each pin, who holds its line high: a mask of {@link IrqSource} bits. */
  lines: PIC_PINS,
});

export const Ioapic = sequence(Pic.end, {
  baseLow: 1,
  baseHigh: 1,
  select: 1,
  id: 1,
  irr: 1,
  /** Edges in `irr` that the processors have got already. */
  irrDelivered: 1,
  /** Redirection entries, low and high word each. */
  entries: 2 * IOAPIC_PINS,
  lines: IOAPIC_PINS,
  /** Deliveries of a level in a row that its EOI found still high. */
  eoiStorm: IOAPIC_PINS,
  /** Processors that have not ended the last interrupt of the clock chip's pin. */
  rtcPendingEoi: 1,
  stormArmed: 1,
  stormUntil: TIME,
});

/** One channel of the 8254: `kvm_pit_channel_state`'s fields in its order, the time last. */
const PitChannel = sequence(0, {
  count: 1,
  latchedCount: 1,
  countLatched: 1,
  statusLatched: 1,
  status: 1,
  readState: 1,
  writeState: 1,
  writeLatch: 1,
  rwMode: 1,
  mode: 1,
  bcd: 1,
  gate: 1,
  countLoadTime: TIME,
});
export const PitWord = PitChannel;

export const Pit = sequence(Ioapic.end, {
  /** Not zero: there is one; {@link PitPresence}. */
  present: 1,
  flags: 1,
  channels: 3 * PitChannel.end,
  armed: 1,
  periodic: 1,
  /** Ticks to make up for, the one under way included. */
  pending: 1,
  /** The guest has acknowledged the last tick. */
  acknowledged: 1,
  reinject: 1,
  period: TIME,
  expiry: TIME,
});
export const PitPresence = { NONE: 0, PLAIN: 1, WITH_SPEAKER: 2 } as const;

/** What one GSI leads to: its kind and pins, then a message. */
export const RouteWord = sequence(0, { kind: 1, addressLow: 1, addressHigh: 1, data: 1 });

export const Routing = sequence(Pit.end, {
  /** The GSI of each chip's pin, or -1. */
  picGsi: PIC_PINS,
  ioapicGsi: IOAPIC_PINS,
  /** GSIs whose line an irqfd with resampling may hold, as bits. */
  resample: MAX_GSIS / 32,
  gsis: MAX_GSIS * RouteWord.end,
});

/** The 256 vectors as bits. */
export const VECTOR_WORDS = 8;

/** Words of a local APIC's register page: `kvm_lapic_state` is 1024 bytes. */
export const LAPIC_PAGE_WORDS = 256;

/** What a local APIC has beside its register page. Relative to the page. */
export const Lapic = sequence(LAPIC_PAGE_WORDS, {
  /** The processor's id: its APIC id at reset and its x2APIC id for ever. */
  id: 1,
  /** IA32_APIC_BASE. */
  baseLow: 1,
  baseHigh: 1,
  /** {@link LapicFeature} bits and, in bits 15:8, the physical address bits of the guest's CPUID. */
  features: 1,
  /** {@link LapicEvent} bits that wait for the processor. */
  events: 1,
  sipiVector: 1,
  /** NMIs that wait, at most 2 (Intel SDM vol. 3, 6.7.1: one is served, one latched). */
  nmis: 1,
  /** 1 + the vector of a level interrupt whose end the monitor's IOAPIC must hear of, or 0. */
  ioapicEoi: 1,
  /** Split chip: 1 + the vector that the monitor's 8259As put on LINT0, or 0. */
  external: 1,
  /** 1 + the vector by which the clock chip's interrupt came, while it is not ended, or 0. */
  rtcVector: 1,
  timerArmed: 1,
  /** LVT timer mode in use: bits 18:17 of the LVT. */
  timerMode: 1,
  divideCount: 1,
  deadlineLow: 1,
  deadlineHigh: 1,
  /** MSR_KVM_PV_EOI_EN. */
  pvEoiLow: 1,
  pvEoiHigh: 1,
  pvEoiPending: 1,
  /** The vectors whose end IOAPICs hear of, as bits, and whether the processor has to make them anew before it goes on. */
  heard: VECTOR_WORDS,
  relisten: 1,
  /** 1 + the highest of them that is there only because it was not ended when its pin went elsewhere, or 0. */
  staleVector: 1,
  timerPeriod: TIME,
  timerExpiry: TIME,
});
/** One APIC and the next are a multiple of a cache line apart. */
export const LAPIC_WORDS = Math.ceil(Lapic.end / 16) * 16;

const LAPICS = Math.ceil(Routing.end / 16) * 16;

export function lapicWord(index: number): number {
  return LAPICS + index * LAPIC_WORDS;
}

/** How many bytes the interrupt hardware of a machine of up to `maxVcpus` takes. Begin it at a multiple of 64. */
export function interruptAreaBytes(maxVcpus: number): number {
  return 4 * lapicWord(maxVcpus);
}

/** The shared memory under the two views that its users need. */
export interface SharedArea {
  readonly words: Int32Array;
  /** The same memory; the time at word n is its element n / 2. */
  readonly times: Float64Array;
  readonly maxVcpus: number;
}

export function sharedArea(buffer: ArrayBufferLike, byteOffset: number, maxVcpus: number): SharedArea {
  const count = interruptAreaBytes(maxVcpus) / 4;
  return {
    words: new Int32Array(buffer, byteOffset, count),
    times: new Float64Array(buffer, byteOffset, count / 2),
    maxVcpus,
  };
}
