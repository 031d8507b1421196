/* Extended precision on the x87: a Mandelbrot set, a series, square roots, conversions. */
#include "guest.h"

static int escape(long double x, long double y) {
  long double re = 0, im = 0;
  for (int count = 0; count < 100; count++) {
    long double re2 = re * re, im2 = im * im;
    if (re2 + im2 > 4) return count;
    im = 2 * re * im + y;
    re = re2 - im2 + x;
  }
  return 100;
}

static long double series(int terms) {
  long double sum = 0;
  for (int i = 1; i < terms; i++) sum += 1.0L / ((long double)i * i);
  return sum;
}

static long double roots(int count) {
  long double sum = 0;
  for (int i = 0; i < count; i++) sum += __builtin_sqrtl((long double)i + sum * 0.001L);
  return sum;
}

uint64_t workload(void) {
  uint64_t sum = 0;
  for (int row = 0; row < 200; row++) {
    for (int column = 0; column < 60; column++) {
      sum = mix(sum, (uint64_t)escape(column * 0.05L - 2.2L, row * 0.012L - 1.2L));
    }
    sum = mix(sum, (uint64_t)(series(1500) * 1e15L));
    sum = mix(sum, (uint64_t)(roots(1500) * 1e9L));
  }
  return sum;
}
