// Xen's libraries for grants and event channels. Their headers do not say that they are C.
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

extern "C" {
#include <xenevtchn.h>
#include <xengnttab.h>
}
