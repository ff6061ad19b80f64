/* Lets a Python program that valgrind runs say what is counted; called through ctypes. Built by
 * environment.py where valgrind's headers are installed. */
#include <valgrind/callgrind.h>

void start_counting(void) {
  CALLGRIND_START_INSTRUMENTATION;
  CALLGRIND_ZERO_STATS;
}

/* Writes what was counted since to a file of its own that carries the label. */
void stop_counting(const char *label) {
  CALLGRIND_DUMP_STATS_AT(label);
  CALLGRIND_STOP_INSTRUMENTATION;
}
