/** Runs the suite on /dev/kvm. */

import { openKvmHost } from "./node/kvm-host.ts";
import { runSuite } from "./node/run-suite.ts";

runSuite("kvm", openKvmHost);
