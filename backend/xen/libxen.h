// Xen's libraries for grants and event channels, and the grant device itself. Their headers do not say that
// they are C.
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <xen/sys/gntdev.h>

extern "C" {
#include <xenevtchn.h>
#include <xengnttab.h>
}
