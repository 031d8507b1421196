/** A case and its outcome as processor.c reads and writes them: `struct record`. */

export const RECORD = 256;
export const CODE = 0x100000;
export const DATA = 0x200000;
export const MEMORY_BYTES = 112;

export const Field = {
  fcw: 0,
  fsw: 2,
  ftw: 4,
  length: 5,
  fop: 6,
  code: 8,
  st: 16,
  memory: 96,
  rax: 208,
  rflags: 216,
  fip: 224,
  fdp: 232,
} as const;

export const SIGFPE = 8;
