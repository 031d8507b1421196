/** The console device's constants and structures (virtio 1.2, 5.3). */

/** 5.3.3. */
export const ConsoleFeature = { SIZE: 1n << 0n, MULTIPORT: 1n << 1n } as const;

/** struct virtio_console_config (5.3.4): u16 columns, u16 rows, u32 ports. */
export const Config = { COLUMNS: 0, ROWS: 2, MAX_PORTS: 4, LENGTH: 8 } as const;

/** Queues (5.3.2): port 0, control, then the other ports; receiving first. */
export const CONTROL_TO_DRIVER = 2;
export const CONTROL_TO_DEVICE = 3;

/** The queue that the driver receives a port's data in; the next one is the other way. */
export function firstQueue(port: number): number {
  return port === 0 ? 0 : 2 + port * 2;
}

/** Which port a queue belongs to, for queues other than the control queues. */
export function portOf(queue: number): number {
  return queue < 2 ? 0 : (queue - 2) >> 1;
}

/** struct virtio_console_control (5.3.6.2): u32 port, u16 event, u16 value; a name or a size may follow. */
export const CONTROL_LENGTH = 8;
export const ControlEvent = {
  DEVICE_READY: 0,
  PORT_ADD: 1,
  PORT_REMOVE: 2,
  PORT_READY: 3,
  CONSOLE_PORT: 4,
  RESIZE: 5,
  PORT_OPEN: 6,
  PORT_NAME: 7,
} as const;
