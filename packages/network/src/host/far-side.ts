/** The other end of a guest's TCP connection, as the stack needs it: a stream that never blocks. */

export interface FarSide {
  /** Bytes into the room, 0 at the end, or a negative `errno`; after `-EAGAIN` {@link FarEvents.ready} says when there is more. */
  receive(room: Uint8Array): number;
  /** Bytes taken, or a negative `errno`, in the same way. */
  send(data: Uint8Array): number;
  /** The guest sends no more. */
  end(): void;
  /** Ends it: both directions are done, or with a reset, if they are not. */
  close(reset: boolean): void;
}

export interface FarEvents {
  /** It is connected. */
  opened(): void;
  /** It could not be connected, or broke: a positive `errno`. */
  failed(errno: number): void;
  /** There may be something to receive, or room to send. */
  ready(): void;
}
