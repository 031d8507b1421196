/** What PCs have had forever. */

export { Cmos, type CmosWires } from "./cmos.ts";
export { DebugConsole, DebugExit, TestDevice, TestDeviceLines, TestDeviceMemory } from "./debug.ts";
export { FirmwareConfig, type FirmwareConfigItems } from "./firmware-config.ts";
export { PanicDevice } from "./panic.ts";
export {
  GENERAL_BYTES,
  PmOffset,
  PowerManagement,
  type PowerManagementWires,
  SOFT_OFF_TYPE,
} from "./power-management.ts";
export { KeyboardControllerReset, ResetControl } from "./reset.ts";
export { Uart16550, type UartState, type UartWires } from "./serial/uart.ts";
