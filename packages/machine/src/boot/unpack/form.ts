/** The forms that kernels are packed in and that are known here (the kernel's scripts/Makefile.lib). */

const MAGIC = {
  gzip: [0x1f, 0x8b],
  zstd: [0x28, 0xb5, 0x2f, 0xfd],
  lz4: [0x02, 0x21, 0x4c, 0x18],
  xz: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00],
} as const;

export type PackedForm = keyof typeof MAGIC;

/** By how the bytes begin; undefined when it is none of these. */
export function packedForm(bytes: Uint8Array): PackedForm | undefined {
  const forms = Object.keys(MAGIC) as PackedForm[];
  return forms.find((form) => MAGIC[form].every((byte, index) => bytes[index] === byte));
}
