/** Every constant and layout of this package against the C headers of the machine that runs the test. */

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempDisposableSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Errno } from "./errors.ts";
import * as events from "./events.ts";
import { AllocateFlag, FileStatus, OpenFlag, Seek, TransferFlag } from "./file.ts";
import { At, Dirent, FolderFlag } from "./folder.ts";
import * as internet from "./internet.ts";
import { io, ior, iow, iowr } from "./ioctl.ts";
import { Fcntl, Flock } from "./locks.ts";
import { ADD_SEALS, Advice, MapFlag, MemfdFlag, Protection, Seal } from "./memory.ts";
import { Namespace } from "./namespaces.ts";
import { MAX_CPUS, Prctl } from "./scheduling.ts";
import * as signals from "./signals.ts";
import { AddressFamily, Sockaddr, SockaddrUnix } from "./socket-address.ts";
import { Cmsghdr, Msghdr, SocketType, Unix } from "./sockets.ts";
import { RawMode, TerminalRequest, Termios } from "./terminal.ts";

/** The keys of one of our tables as C spells them. */
function prefixed(prefix: string, table: Record<string, number>): Record<string, number> {
  return Object.fromEntries(Object.entries(table).map(([key, value]) => [prefix + key, value]));
}

/** C expression → our value. */
const ours: Record<string, number> = {
  ...prefixed("", Errno),
  ...prefixed("O_", OpenFlag),
  ...prefixed("O_", FolderFlag),
  ...prefixed("AT_", At),
  ...prefixed("RWF_", TransferFlag),
  ...prefixed("FALLOC_FL_", AllocateFlag),
  ...prefixed("SEEK_", Seek),
  ...prefixed("F_", Fcntl),
  ...prefixed("F_", FileStatus),
  ...prefixed("PROT_", Protection),
  ...prefixed("MAP_", MapFlag),
  ...prefixed("MADV_", Advice),
  ...prefixed("MFD_", MemfdFlag),
  ...prefixed("F_SEAL_", Seal),
  F_ADD_SEALS: ADD_SEALS,
  ...prefixed("EPOLL", events.EpollEvent),
  ...prefixed("CLOCK_", events.Clock),
  ...prefixed("PR_", Prctl),
  ...prefixed("SOCK_", SocketType),
  ...prefixed("", Unix),
  ...prefixed("AF_", AddressFamily),
  ...prefixed("IPPROTO_", internet.Protocol),
  ...prefixed("", internet.SocketLevel),
  ...prefixed("", internet.SocketOption),
  ...prefixed("", internet.MessageFlag),
  ...prefixed("", internet.Shutdown),
  ...prefixed("CLONE_", Namespace),
  ...prefixed("SO_EE_ORIGIN_", internet.ErrorOrigin),
  "offsetof(struct sockaddr_in, sin_family)": Sockaddr.FAMILY,
  "offsetof(struct sockaddr_in, sin_port)": Sockaddr.PORT,
  "offsetof(struct sockaddr_in, sin_addr)": Sockaddr.ADDRESS4,
  "sizeof(struct sockaddr_in)": Sockaddr.SIZE4,
  "offsetof(struct sockaddr_in6, sin6_addr)": Sockaddr.ADDRESS6,
  "offsetof(struct sockaddr_in6, sin6_scope_id)": Sockaddr.SCOPE6,
  "sizeof(struct sockaddr_in6)": Sockaddr.SIZE6,
  "offsetof(struct sockaddr_un, sun_path)": SockaddrUnix.PATH,
  "sizeof(struct sockaddr_un)": SockaddrUnix.SIZE,
  "offsetof(struct sock_extended_err, ee_errno)": internet.ExtendedError.ERRNO,
  "offsetof(struct sock_extended_err, ee_origin)": internet.ExtendedError.ORIGIN,
  "offsetof(struct sock_extended_err, ee_type)": internet.ExtendedError.TYPE,
  "offsetof(struct sock_extended_err, ee_code)": internet.ExtendedError.CODE,
  "offsetof(struct sock_extended_err, ee_info)": internet.ExtendedError.INFO,
  "sizeof(struct sock_extended_err)": internet.ExtendedError.SIZE,
  ...prefixed("", TerminalRequest),
  "offsetof(struct termios, c_iflag)": Termios.INPUT,
  "offsetof(struct termios, c_oflag)": Termios.OUTPUT,
  "offsetof(struct termios, c_cflag)": Termios.CONTROL,
  "offsetof(struct termios, c_lflag)": Termios.LOCAL,
  "IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON": RawMode.INPUT_OFF,
  OPOST: RawMode.OUTPUT_OFF,
  "CSIZE | PARENB": RawMode.CONTROL_OFF,
  CS8: RawMode.CONTROL_ON,
  "ECHO | ECHONL | ICANON | ISIG | IEXTEN": RawMode.LOCAL_OFF,

  EFD_CLOEXEC: events.CLOEXEC,
  EFD_NONBLOCK: events.NONBLOCK,
  TFD_CLOEXEC: events.CLOEXEC,
  TFD_NONBLOCK: events.NONBLOCK,
  EPOLL_CLOEXEC: events.CLOEXEC,
  EPOLL_CTL_ADD: events.EPOLL_CTL_ADD,
  EPOLL_CTL_MOD: events.EPOLL_CTL_MOD,
  EPOLL_CTL_DEL: events.EPOLL_CTL_DEL,
  "sizeof(struct epoll_event)": events.EVENT_SIZE,
  "offsetof(struct epoll_event, events)": 0,
  "offsetof(struct epoll_event, data)": events.EVENT_DATA,
  "sizeof(struct itimerspec)": 32,
  "offsetof(struct itimerspec, it_interval)": 0,
  "offsetof(struct itimerspec, it_value.tv_sec)": 16,
  "offsetof(struct itimerspec, it_value.tv_nsec)": 24,

  SIGRTMIN: signals.SIGRTMIN,
  SIG_BLOCK: signals.SIG_BLOCK,
  SIG_UNBLOCK: signals.SIG_UNBLOCK,
  SA_RESTART: signals.SA_RESTART,
  "offsetof(struct sigaction, sa_handler)": signals.Sigaction.HANDLER,
  "offsetof(struct sigaction, sa_flags)": signals.Sigaction.FLAGS,
  "sizeof(struct sigaction)": signals.Sigaction.SIZE,
  "sizeof(sigset_t)": signals.SIGSET_BYTES,
  CPU_SETSIZE: MAX_CPUS,

  "offsetof(struct dirent64, d_ino)": Dirent.INODE,
  "offsetof(struct dirent64, d_off)": Dirent.OFFSET,
  "offsetof(struct dirent64, d_reclen)": Dirent.LENGTH,
  "offsetof(struct dirent64, d_type)": Dirent.TYPE,
  "offsetof(struct dirent64, d_name)": Dirent.NAME,
  "offsetof(struct flock, l_type)": Flock.TYPE,
  "offsetof(struct flock, l_whence)": Flock.WHENCE,
  "offsetof(struct flock, l_start)": Flock.START,
  "offsetof(struct flock, l_len)": Flock.LEN,
  "offsetof(struct flock, l_pid)": Flock.PID,
  "sizeof(struct flock)": Flock.SIZE,
  "sizeof(struct iovec)": 16,
  "offsetof(struct iovec, iov_base)": 0,
  "offsetof(struct iovec, iov_len)": 8,
  "sizeof(struct msghdr)": Msghdr.SIZE,
  "offsetof(struct msghdr, msg_iov)": Msghdr.IOV,
  "offsetof(struct msghdr, msg_iovlen)": Msghdr.IOVLEN,
  "offsetof(struct msghdr, msg_control)": Msghdr.CONTROL,
  "offsetof(struct msghdr, msg_controllen)": Msghdr.CONTROLLEN,
  "offsetof(struct msghdr, msg_flags)": Msghdr.FLAGS,
  "sizeof(struct cmsghdr)": Cmsghdr.SIZE,
  "offsetof(struct cmsghdr, cmsg_len)": Cmsghdr.LEN,
  "offsetof(struct cmsghdr, cmsg_level)": Cmsghdr.LEVEL,
  "offsetof(struct cmsghdr, cmsg_type)": Cmsghdr.TYPE,
  "CMSG_LEN(0)": Cmsghdr.SIZE,

  "_IO('T', 0x41)": io(0x54, 0x41),
  "_IOR('T', 0x30, int)": ior(0x54, 0x30, 4),
  "_IOW('T', 0x31, int)": iow(0x54, 0x31, 4),
  "_IOWR(0xae, 0x05, char[8])": iowr(0xae, 0x05, 8),
  "_IOW(0xff, 0xff, char[16383])": iow(0xff, 0xff, 16383),
};

/** Macros that Debian 12's headers do not have yet (Linux 6.4); each is checked where the headers have it. */
const newer = new Set(["PR_SET_MEMORY_MERGE", "PR_GET_MEMORY_MERGE"]);

function print(expression: string): string {
  const line = `  printf("%lld\\n", (long long) (${expression}));`;
  return newer.has(expression) ? `#ifdef ${expression}\n${line}\n#else\n  puts("absent");\n#endif` : line;
}

const program = `
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <termios.h>
#include <time.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <linux/errqueue.h>
#include <sys/un.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>
int main(void) {
${Object.keys(ours).map(print).join("\n")}
  return 0;
}
`;

const gcc = spawnSync("gcc", ["--version"]).status === 0;

test("constants and layouts are those of the C headers", { skip: gcc ? false : "gcc is not installed" }, (t) => {
  using dir = mkdtempDisposableSync(join(tmpdir(), "lodge-headers-"));
  const [source, binary] = [join(dir.path, "print.c"), join(dir.path, "print")];
  writeFileSync(source, program);
  execFileSync("gcc", ["-o", binary, source], { stdio: ["ignore", "ignore", "inherit"] });
  const printed = execFileSync(binary, { encoding: "utf8" }).trimEnd().split("\n");
  const theirs = { ...ours };
  for (const [index, expression] of Object.keys(ours).entries()) {
    const value = printed[index]!;
    if (value === "absent") t.diagnostic(`these headers have no ${expression}`);
    // Flags such as EPOLLET are negative as C's int; ours are the same 32 bits unsigned. AT_FDCWD is negative.
    else theirs[expression] = Number(value) < 0 && ours[expression]! > 0 ? Number(value) >>> 0 : Number(value);
  }
  assert.deepEqual(ours, theirs);
});
