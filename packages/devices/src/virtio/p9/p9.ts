/** The 9P device: a host folder that the guest mounts by its tag (virtio 1.2 reserves the ID; its Linux driver defines the rest). */

import { DeviceError } from "../../errors.ts";
import { flag, group, list, type SavedState, stateRecord, text, u32 } from "../../state.ts";
import { DeviceType } from "../device.ts";
import { type Chain, part, type Virtqueue } from "../queue/index.ts";
import { SharedFolderDevice, type SharedFolderOptions } from "../shared-folder/device.ts";
import { Errno, errnoOf, Refusal } from "../shared-folder/refusal.ts";
import {
  FieldReader,
  FieldWriter,
  HEADER_LENGTH,
  Message,
  READ_REPLY_LENGTH,
  WRITE_REQUEST_LENGTH,
} from "./protocol.ts";
import { P9Server } from "./server.ts";

/** VIRTIO_9P_MOUNT_TAG: the configuration is u16 length and the tag. */
const MOUNT_TAG = 1n;
/** The client has a piece for each page of a message: more, and it would ask for longer messages. */
const QUEUE_SIZE = 128;

const record = stateRecord("virtio-9p", 1, {
  messageBytes: u32,
  fids: list(group({ fid: u32, names: list(text(255), 4096), open: flag, flags: u32 }), 16384),
});

export class P9Device extends SharedFolderDevice {
  readonly type = DeviceType.P9;
  readonly features = MOUNT_TAG;
  readonly queueSizes = [QUEUE_SIZE];
  readonly config: Uint8Array;
  protected readonly server: P9Server;

  /** The tag has 1 to 255 bytes. */
  constructor(options: SharedFolderOptions, saved?: SavedState) {
    const { tag } = options;
    const name = new TextEncoder().encode(tag);
    if (name.length === 0 || name.length > 255) {
      throw new DeviceError("DEVICE_CONFIGURATION", `the tag ${JSON.stringify(tag)} has not 1 to 255 bytes`);
    }
    const state = saved === undefined ? undefined : record.restore(saved);
    super(options);
    this.config = new Uint8Array([name.length, 0, ...name]);
    this.server = new P9Server(this.share);
    if (state === undefined) return;
    this.server.messageBytes = state.messageBytes;
    this.server.restore(state.fids);
  }

  protected override begin(number: number, queue: Virtqueue, chain: Chain): void {
    const header = new DataView(new ArrayBuffer(HEADER_LENGTH));
    const size = chain.read(0, new Uint8Array(header.buffer)) < HEADER_LENGTH ? 0 : header.getUint32(0, true);
    if (size < HEADER_LENGTH || size > chain.readableBytes || chain.writableBytes < READ_REPLY_LENGTH) {
      queue.break("a 9P message that does not fit its buffers");
      return;
    }
    const type = header.getUint8(4);
    const tag = header.getUint16(5, true);
    this.run(number, queue, chain, this.#answer(type, tag, size, chain), tag);
  }

  /** Performs a request and writes its answer; returns the answer's length. Never rejects. */
  async #answer(type: number, tag: number, size: number, chain: Chain): Promise<number> {
    const reply = new FieldWriter();
    try {
      if (size > this.server.messageBytes) throw new Refusal(Errno.EPROTO);
      const message = new Uint8Array(type === Message.WRITE ? Math.min(size, WRITE_REQUEST_LENGTH) : size);
      chain.read(0, message);
      const fields = new FieldReader(message);
      if (type === Message.FLUSH) {
        // flush(5): the answer comes after the other request's; ours is not yet among the running.
        const flushed = fields.u16();
        await Promise.all([...this.running].filter(([, running]) => running === flushed).map(([answer]) => answer));
        return chain.write(0, reply.finish(type + 1, tag));
      }
      const data = await this.server.perform(type, fields, reply, {
        data: type === Message.WRITE ? part(chain.readable, WRITE_REQUEST_LENGTH, size - WRITE_REQUEST_LENGTH) : [],
        room: type === Message.READ ? part(chain.writable, READ_REPLY_LENGTH) : [],
        roomBytes: chain.writableBytes - READ_REPLY_LENGTH,
      });
      if (reply.length > chain.writableBytes) throw new Refusal(Errno.EPROTO);
      return chain.write(0, reply.finish(type + 1, tag, data)) + data;
    } catch (cause) {
      return chain.write(0, new FieldWriter().u32(errnoOf(cause)).finish(Message.RLERROR, tag));
    }
  }

  override save(): SavedState {
    return record.save({ messageBytes: this.server.messageBytes, fids: this.server.save() });
  }
}
