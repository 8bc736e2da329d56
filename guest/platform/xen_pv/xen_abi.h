// Xen's public headers, as of the version they come with: unless told, they give a guest the hypercall
// numbers of 2005.
#pragma once

#define __XEN_INTERFACE_VERSION__ __XEN_LATEST_INTERFACE_VERSION__

#include <xen/event_channel.h>
#include <xen/memory.h>
#include <xen/sched.h>
#include <xen/xen.h>

static_assert(__HYPERVISOR_sched_op == 29 && __HYPERVISOR_event_channel_op == 32);
