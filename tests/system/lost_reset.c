// SPDX-License-Identifier: Apache-2.0
// A sabotage for tests: a reset of a SCSI device (SG_SCSI_RESET) that is told to be done, and is not. LD_PRELOAD.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <scsi/sg.h>
#include <stdarg.h>

int ioctl(int fd, unsigned long request, ...) {
  static int (*real)(int, unsigned long, void *);
  va_list arguments;
  va_start(arguments, request);
  void *argument = va_arg(arguments, void *);
  va_end(arguments);
  if (request == SG_SCSI_RESET) return 0;
  if (!real) real = (int (*)(int, unsigned long, void *))dlsym(RTLD_NEXT, "ioctl");
  return real(fd, request, argument);
}
