/** The states of a connection (RFC 9293, 3.3.2) as the guest's end sees them, and what leads from one to another. */

export type TcpState =
  /** The guest wants to connect, and the far side is being asked. */
  | "OPENING"
  | "SYN_SENT"
  | "SYN_RECEIVED"
  | "ESTABLISHED"
  | "FIN_WAIT_1"
  | "FIN_WAIT_2"
  | "CLOSE_WAIT"
  | "CLOSING"
  | "LAST_ACK"
  | "TIME_WAIT"
  | "CLOSED";

export type TcpEvent = "answered" | "synchronized" | "finSent" | "finAcknowledged" | "finReceived";

const TRANSITIONS: Readonly<Record<TcpState, Partial<Record<TcpEvent, TcpState>>>> = {
  OPENING: { answered: "SYN_RECEIVED" },
  SYN_SENT: { answered: "SYN_RECEIVED", synchronized: "ESTABLISHED" },
  SYN_RECEIVED: { synchronized: "ESTABLISHED" },
  ESTABLISHED: { finSent: "FIN_WAIT_1", finReceived: "CLOSE_WAIT" },
  FIN_WAIT_1: { finAcknowledged: "FIN_WAIT_2", finReceived: "CLOSING" },
  FIN_WAIT_2: { finReceived: "TIME_WAIT" },
  CLOSE_WAIT: { finSent: "LAST_ACK" },
  CLOSING: { finAcknowledged: "TIME_WAIT" },
  LAST_ACK: { finAcknowledged: "CLOSED" },
  TIME_WAIT: {},
  CLOSED: {},
};

export function transition(state: TcpState, event: TcpEvent): TcpState {
  const next = TRANSITIONS[state][event];
  if (next === undefined) throw new Error(`TCP: ${event} in ${state}`);
  return next;
}

/** We may send data: our FIN is not sent. */
export function isSending(state: TcpState): boolean {
  return state === "ESTABLISHED" || state === "CLOSE_WAIT";
}

/** The guest may send data: its FIN has not come. */
export function isReceiving(state: TcpState): boolean {
  return state === "ESTABLISHED" || state === "FIN_WAIT_1" || state === "FIN_WAIT_2";
}
