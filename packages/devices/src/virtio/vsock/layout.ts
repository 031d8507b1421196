/** The socket device's constants and structures (virtio 1.2, 5.10). */

export const HOST_CID = 2;

/** Queues (5.10.2). */
export const RECEIVE = 0;
export const TRANSMIT = 1;
export const EVENT = 2;

/** struct virtio_vsock_hdr (5.10.6): byte offsets. */
export const Header = {
  SRC_CID: 0,
  DST_CID: 8,
  SRC_PORT: 16,
  DST_PORT: 20,
  LEN: 24,
  TYPE: 28,
  OP: 30,
  FLAGS: 32,
  BUF_ALLOC: 36,
  FWD_CNT: 40,
  LENGTH: 44,
} as const;

export const TYPE_STREAM = 1;
export const Op = {
  REQUEST: 1,
  RESPONSE: 2,
  RST: 3,
  SHUTDOWN: 4,
  RW: 5,
  CREDIT_UPDATE: 6,
  CREDIT_REQUEST: 7,
} as const;

/** SHUTDOWN's flags: its sender receives, or sends, no more. */
export const Shutdown = { RECEIVE: 1, SEND: 2 } as const;

/** Every connection ends (5.10.6.7): the machine came here from elsewhere. */
export const TRANSPORT_RESET = 0;

export interface Packet {
  /** The guest's port, and ours. */
  guestPort: number;
  hostPort: number;
  op: number;
  flags: number;
  bufAlloc: number;
  fwdCnt: number;
}
