/** The 16550A's registers (National Semiconductor PC16550D data sheet, section 8). */

/** Offsets. With LCR.DLAB set, 0 and 1 are the divisor's halves. */
export const Register = {
  /** Receive buffer (read), transmit holding (write). */
  DATA: 0,
  /** Interrupt enable. */
  IER: 1,
  /** Interrupt identification (read), FIFO control (write). */
  IIR: 2,
  /** Line control. */
  LCR: 3,
  /** Modem control. */
  MCR: 4,
  /** Line status. */
  LSR: 5,
  /** Modem status. */
  MSR: 6,
  /** Scratch. */
  SCR: 7,
} as const;

export const Ier = { RECEIVED: 1, TRANSMITTER_EMPTY: 2, LINE_STATUS: 4, MODEM_STATUS: 8, ALL: 0xf } as const;

/** Interrupt identification, most urgent first; bit 0 clear means pending. */
export const Iir = {
  NONE: 1,
  LINE_STATUS: 6,
  RECEIVED: 4,
  /** Characters wait below the trigger level and no more came: this one times out at once. */
  TIMEOUT: 12,
  TRANSMITTER_EMPTY: 2,
  MODEM_STATUS: 0,
  FIFOS_ENABLED: 0xc0,
} as const;

export const Fcr = { ENABLE: 1, CLEAR_RECEIVER: 2, CLEAR_TRANSMITTER: 4, TRIGGER: 0xc0 } as const;

export const Lcr = { DLAB: 0x80 } as const;

export const Mcr = { DTR: 1, RTS: 2, OUT1: 4, OUT2: 8, LOOPBACK: 0x10, ALL: 0x1f } as const;

export const Lsr = { DATA_READY: 1, OVERRUN: 2, HOLDING_EMPTY: 0x20, TRANSMITTER_EMPTY: 0x40 } as const;

/** The low half are changes of the high half since the last read. */
export const Msr = { CTS: 0x10, DSR: 0x20, RING: 0x40, CARRIER: 0x80, RING_ENDED: 4 } as const;

/** How many characters the chip's receiver holds. */
export const FIFO = 16;
