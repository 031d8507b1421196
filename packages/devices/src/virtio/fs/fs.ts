/** The file system device (virtio 1.2, 5.11): a host folder that the guest mounts by its tag, by FUSE. */

import { DeviceError } from "../../errors.ts";
import { type SavedState, stateRecord } from "../../state.ts";
import { DeviceType } from "../device.ts";
import type { Chain, Virtqueue } from "../queue/index.ts";
import { SharedFolderDevice, type SharedFolderOptions } from "../shared-folder/device.ts";
import { errnoOf } from "../shared-folder/refusal.ts";
import { Config } from "./layout.ts";
import { FuseRequest } from "./request.ts";
import { FuseServer } from "./server.ts";

/** The first queue is for what must not wait behind others: forgotten nodes. */
const QUEUE_SIZES = [128, 128];

const record = stateRecord("virtio-fs", 1, {});

/** What the guest holds open lies in its kernel's memory by numbers of ours: a restored device knows none of them (ESTALE). */
export class FsDevice extends SharedFolderDevice {
  readonly type = DeviceType.FS;
  readonly features = 0n;
  readonly queueSizes = QUEUE_SIZES;
  readonly config = new Uint8Array(Config.LENGTH);
  protected readonly server: FuseServer;

  /** The tag has 1 to 36 bytes. */
  constructor(options: SharedFolderOptions, saved?: SavedState) {
    const { tag } = options;
    const name = new TextEncoder().encode(tag);
    if (name.length === 0 || name.length > Config.TAG_BYTES || name.includes(0)) {
      throw new DeviceError("DEVICE_CONFIGURATION", `the tag ${JSON.stringify(tag)} has not 1 to 36 bytes`);
    }
    if (saved !== undefined) record.restore(saved);
    super(options);
    this.config.set(name);
    this.config[Config.REQUEST_QUEUES] = QUEUE_SIZES.length - 1;
    this.server = new FuseServer(this.share);
  }

  protected override begin(number: number, queue: Virtqueue, chain: Chain): void {
    const request = FuseRequest.from(chain);
    if (request === undefined) {
      queue.break("a FUSE request without its header");
      return;
    }
    this.run(number, queue, chain, this.#answer(request));
  }

  /** Never rejects. */
  async #answer(request: FuseRequest): Promise<number> {
    try {
      const outcome = await this.server.perform(request);
      return typeof outcome === "number" ? request.answer(0, undefined, outcome) : request.answer(0, outcome);
    } catch (cause) {
      return request.answer(errnoOf(cause));
    }
  }

  override save(): SavedState {
    return record.save({});
  }
}
