// Xen's library that builds guests of any kind. Its header does not say that it is C.
#pragma once

#include "spawner/toolstack/libxenctrl.h"

extern "C" {
#include <xenguest.h>
}
