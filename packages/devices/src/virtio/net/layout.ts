/** The network device's constants and structures (virtio 1.2, 5.1). */

/** 5.1.3. GUEST_*: what the driver receives; HOST_*: what the device takes. */
export const NetFeature = {
  CSUM: 1n << 0n,
  GUEST_CSUM: 1n << 1n,
  CTRL_GUEST_OFFLOADS: 1n << 2n,
  MTU: 1n << 3n,
  MAC: 1n << 5n,
  GUEST_TSO4: 1n << 7n,
  GUEST_TSO6: 1n << 8n,
  GUEST_ECN: 1n << 9n,
  GUEST_UFO: 1n << 10n,
  HOST_TSO4: 1n << 11n,
  HOST_TSO6: 1n << 12n,
  HOST_ECN: 1n << 13n,
  HOST_UFO: 1n << 14n,
  MRG_RXBUF: 1n << 15n,
  STATUS: 1n << 16n,
  CTRL_VQ: 1n << 17n,
  CTRL_RX: 1n << 18n,
  CTRL_VLAN: 1n << 19n,
  CTRL_RX_EXTRA: 1n << 20n,
  GUEST_ANNOUNCE: 1n << 21n,
  MQ: 1n << 22n,
  CTRL_MAC_ADDR: 1n << 23n,
} as const;

/** struct virtio_net_config (5.1.4): byte offsets. */
export const Config = { MAC: 0, STATUS: 6, MAX_PAIRS: 8, MTU: 10, LENGTH: 12 } as const;
export const LinkStatus = { UP: 1, ANNOUNCE: 2 } as const;

/** The control queue's commands (5.1.6.5): u8 class, u8 command, data; u8 answer. */
export const Control = { RX: 0, MAC: 1, VLAN: 2, ANNOUNCE: 3, MQ: 4, GUEST_OFFLOADS: 5 } as const;
export const CONTROL_OK = 0;
export const CONTROL_ERR = 1;
export const MacCommand = { TABLE_SET: 0, ADDR_SET: 1 } as const;
export const VlanCommand = { ADD: 0, DEL: 1 } as const;

/** The longest frame: an IP packet of 64 KiB with Ethernet's header and VLAN tag. */
export const MAX_FRAME = 65535 + 18;
