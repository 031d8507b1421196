/* What keeps a processor busy: the same in guests and, as a measure of what the host has, in its own threads. */
#include <stdint.h>

#define WORDS 8192

__attribute__((noinline)) static uint64_t work(uint64_t *words) {
  uint64_t sum = 0;
  for (int round = 0; round < 36000; round++) {
    for (int i = 0; i < WORDS; i++) {
      words[i] = words[i] * 5 + (sum >> 3);
      if (words[i] & 4) sum += words[i];
      else sum ^= (uint64_t)i;
    }
  }
  return sum;
}
