/** What an image is made by and of. */

export interface ImageRecipe {
  readonly name: string;
  readonly description: string;
  /** Another one is another image, although the name is the same. */
  readonly version: number;
  /** What a build takes of the file system while it goes on. */
  readonly roomBytes: number;
  /** Makes the image's files, working in an empty directory that is removed afterwards. `say` is told each step. */
  build(directory: string, say: (step: string) => void, signal?: AbortSignal): Promise<ImageFiles>;
}

export interface ImageFiles {
  readonly kernel: Buffer;
  readonly initrd: Buffer;
  /** A disk's file in the directory of the build, raw: each machine gets one of its own that begins as this one. */
  readonly disk?: string;
  /** The kernel's command line. */
  readonly append: string;
  /** Names and versions of what it was made of. */
  readonly made: readonly string[];
}
