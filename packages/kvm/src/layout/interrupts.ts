/** Interrupt controllers, timers and the wires to them: the state of KVM's own, and requests about them. */

import { address, array, bytes, type Infer, i32, i64, padding, struct, u8, u16, u32, u64 } from "./struct.ts";

/** A local APIC's registers as the page that a guest would see at 0xfee00000 (Intel SDM vol. 3, table 11-1). */
export const LapicState = struct("kvm_lapic_state", { regs: bytes(1024) });
export type LapicState = Infer<typeof LapicState>;

/** One 8259A. */
export const PicState = struct("kvm_pic_state", {
  lastIrr: u8,
  irr: u8,
  imr: u8,
  isr: u8,
  priorityAdd: u8,
  irqBase: u8,
  readRegSelect: u8,
  poll: u8,
  specialMask: u8,
  initState: u8,
  autoEoi: u8,
  rotateOnAutoEoi: u8,
  specialFullyNestedMode: u8,
  init4: u8,
  elcr: u8,
  elcrMask: u8,
});
export type PicState = Infer<typeof PicState>;

/** The IOAPIC with its 24 redirection entries. */
export const IoapicState = struct("kvm_ioapic_state", {
  baseAddress: address,
  ioregsel: u32,
  id: u32,
  irr: u32,
  pad: padding(u32),
  redirtbl: array(u64, 24),
});
export type IoapicState = Infer<typeof IoapicState>;

/** KVM_IRQCHIP_*: which chip of the PC. */
export const Irqchip = { PIC_MASTER: 0, PIC_SLAVE: 1, IOAPIC: 2 } as const;
export type Irqchip = (typeof Irqchip)[keyof typeof Irqchip];

/** `struct kvm_irqchip`: a chip's number, then its state in a union of 512 bytes at {@link IRQCHIP_STATE}. */
export const IrqchipRecord = struct("kvm_irqchip", { chipId: u32, pad: padding(u32), chip: bytes(512) });
export const IRQCHIP_STATE = IrqchipRecord.offset.chip;

const PitChannel = struct("kvm_pit_channel_state", {
  count: u32,
  latchedCount: u16,
  countLatched: u8,
  statusLatched: u8,
  status: u8,
  readState: u8,
  writeState: u8,
  writeLatch: u8,
  rwMode: u8,
  mode: u8,
  bcd: u8,
  gate: u8,
  /** Nanoseconds of the host's monotonic clock. */
  countLoadTime: i64,
});

/** The 8254's three channels. */
export const PitState = struct("kvm_pit_state2", {
  channels: array(PitChannel, 3),
  flags: u32,
  reserved: padding(u32, 9),
});
export type PitState = Infer<typeof PitState>;

export const PitConfig = struct("kvm_pit_config", { flags: u32, pad: padding(u32, 15) });

/** KVM_PIT_SPEAKER_DUMMY: port 0x61 is answered by KVM too. */
export const PIT_SPEAKER_DUMMY = 1;

/** `irq` holds the GSI on the way in and the delivery status on the way out. */
export const IrqLevel = struct("kvm_irq_level", { irq: i32, level: u32 });

/** A message-signalled interrupt. */
export const Msi = struct("kvm_msi", {
  addressLo: u32,
  addressHi: u32,
  data: u32,
  flags: u32,
  devid: u32,
  pad: padding(u8, 12),
});
export type Msi = Infer<typeof Msi>;

const routingHead = { gsi: u32, type: u32, flags: u32, pad: padding(u32) };

/** `struct kvm_irq_routing_entry` in its two forms that a PC uses; the union behind the head has 32 bytes. */
export const ChipRoutingEntry = struct("kvm_irq_routing_entry", {
  ...routingHead,
  irqchip: u32,
  pin: u32,
  rest: padding(u32, 6),
});
export const MsiRoutingEntry = struct("kvm_irq_routing_entry", {
  ...routingHead,
  addressLo: u32,
  addressHi: u32,
  data: u32,
  devid: u32,
  rest: padding(u32, 4),
});

/** KVM_IRQ_ROUTING_*. */
export const RoutingType = { IRQCHIP: 1, MSI: 2 } as const;

/** `struct kvm_irq_routing` begins with a count and flags; entries follow here. */
export const ROUTING_HEADER = 8;

export const Irqfd = struct("kvm_irqfd", {
  fd: u32,
  gsi: u32,
  flags: u32,
  resamplefd: u32,
  pad: padding(u8, 16),
});

/** KVM_IRQFD_FLAG_*. */
export const IrqfdFlag = { DEASSIGN: 1, RESAMPLE: 2 } as const;

export const Ioeventfd = struct("kvm_ioeventfd", {
  datamatch: u64,
  addr: address,
  len: u32,
  fd: i32,
  flags: u32,
  pad: padding(u8, 36),
});

/** KVM_IOEVENTFD_FLAG_*. */
export const IoeventfdFlag = { DATAMATCH: 1, PIO: 2, DEASSIGN: 4 } as const;
