/** A device that records what it is told. */

import { type SavedState, stateRecord } from "../../state.ts";
import { DeviceType, VirtioDevice } from "../device.ts";

const record = stateRecord("virtio-probe", 1, {});

export class Probe extends VirtioDevice {
  readonly type = DeviceType.ENTROPY;
  readonly features = 0x5n;
  readonly queueSizes = [8, 16];
  readonly config = new Uint8Array([1, 2, 3, 4, 5, 6]);
  override readonly writableConfig = [4, 6] as const;
  readonly told: string[] = [];
  /** What a stop waits for. */
  stopping: Promise<void> | undefined;

  override start(): void {
    this.told.push(`start 0x${this.link.features.toString(16)}`);
  }
  override notified(queue: number): void {
    this.told.push(`queue ${queue}`);
  }
  override configWritten(): void {
    this.told.push(`config ${this.config.subarray(4).join()}`);
  }
  override stop(): void | Promise<void> {
    this.told.push("stop");
    return this.stopping;
  }
  override stopQueue(queue: number): void {
    this.told.push(`stop queue ${queue}`);
  }
  override pause(): void {
    this.told.push("pause");
  }
  override resume(): void {
    this.told.push("resume");
  }
  override save(): SavedState {
    return record.save({});
  }
  get isLegacy(): boolean {
    return this.link.isLegacy;
  }
  change(byte: number): void {
    this.config[0] = byte;
    this.link.configChanged();
  }
  breakDown(): void {
    this.link.fail("it broke");
  }
}
