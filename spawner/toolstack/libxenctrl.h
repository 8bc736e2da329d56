// Xen's control libraries. Their headers do not say that they are C.
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

extern "C" {
#include <xencall.h>
#include <xenctrl.h>
#include <xenforeignmemory.h>
}
