/*
 * vsock-peer connect PORT: sends its input to a port of the host and prints what comes back.
 * vsock-peer listen PORT: accepts one connection, sends back what comes, in capitals.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/vm_sockets.h>

static int check(int result, const char *what) {
  if (result >= 0) return result;
  perror(what);
  exit(1);
}

int main(int count, char **arguments) {
  static char buffer[65536];
  ssize_t length;
  if (count != 3) return 2;
  struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = atoi(arguments[2])};
  int fd = check(socket(AF_VSOCK, SOCK_STREAM, 0), "socket");
  if (strcmp(arguments[1], "connect") == 0) {
    check(connect(fd, (struct sockaddr *)&address, sizeof address), "connect");
    while ((length = read(0, buffer, sizeof buffer)) > 0) check(write(fd, buffer, length), "write");
    shutdown(fd, SHUT_WR);
    while ((length = read(fd, buffer, sizeof buffer)) > 0) check(write(1, buffer, length), "write");
    return length < 0;
  }
  address.svm_cid = VMADDR_CID_ANY;
  check(bind(fd, (struct sockaddr *)&address, sizeof address), "bind");
  check(listen(fd, 1), "listen");
  puts("listening");
  fflush(stdout);
  int peer = check(accept(fd, NULL, NULL), "accept");
  while ((length = read(peer, buffer, sizeof buffer)) > 0) {
    for (ssize_t at = 0; at < length; at++) buffer[at] = toupper((unsigned char)buffer[at]);
    check(write(peer, buffer, length), "write");
  }
  return length < 0;
}
