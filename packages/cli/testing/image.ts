/** The image that machines of tests start from. */

import { spawnSync } from "node:child_process";

const missing = ["apt-get", "dpkg-deb", "xz"].find((program) => spawnSync(program, ["--version"]).error !== undefined);
/** Why none can be had here, for `skip`. */
export const noImage = missing === undefined ? false : `${missing} is not installed`;
