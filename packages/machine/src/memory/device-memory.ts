/** Devices' own memory: files among the guest's physical addresses, behind its RAM, which no memory map tells of. */

import type { DeviceMemory, RamPiece, VirtioDevice } from "@lodge/devices";
import { ABOVE_4G } from "./address-map.ts";
import { bytesOf, ramEnd } from "./ram-layout.ts";

/** Where a guest's direct map is of the largest pages, and no section of memory is RAM's as well. */
const ALIGNMENT = 2 ** 30;

export interface PlacedMemory {
  readonly memory: DeviceMemory;
  readonly piece: RamPiece;
}

/** Gives each device's memory its place, and tells the device. In the machine's own memory they lie behind RAM, in order. */
export function placeDeviceMemory(
  devices: readonly (VirtioDevice | undefined)[],
  ram: readonly RamPiece[],
): PlacedMemory[] {
  let next = Math.max(ABOVE_4G, ramEnd(ram));
  let offset = bytesOf(ram);
  return devices.flatMap((device) => {
    const memory = device?.memory;
    if (memory === undefined) return [];
    const { sizeBytes } = memory;
    const gpa = Math.ceil(next / ALIGNMENT) * ALIGNMENT;
    const piece = { gpa, sizeBytes, offset };
    next = gpa + sizeBytes;
    offset += sizeBytes;
    device!.placed(gpa);
    return [{ memory, piece }];
  });
}
