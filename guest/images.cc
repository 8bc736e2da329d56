#include "guest/images.h"

#include "guest/image_paths.h"

// The assembler copies the files in; page alignment lets a loader map them where they are.
#define SYNFLUID_EMBED(name, path)                                                                     \
  asm(".pushsection .rodata.synfluid_images, \"a\", @progbits\n"                                       \
      ".balign 4096\n" #name "_begin:\n.incbin \"" path "\"\n" #name "_end:\n.byte 0\n.popsection\n"); \
  extern "C" const std::byte name##_begin[];                                                           \
  extern "C" const std::byte name##_end[];

#ifdef SYNFLUID_PROCESS_IMAGE
SYNFLUID_EMBED(synfluid_process_image, SYNFLUID_PROCESS_IMAGE)
#endif
#ifdef SYNFLUID_XEN_IMAGE
SYNFLUID_EMBED(synfluid_xen_image, SYNFLUID_XEN_IMAGE)
#endif

namespace synfluid::guest {

std::span<const std::byte> xen_image() {
#ifdef SYNFLUID_XEN_IMAGE
  return {synfluid_xen_image_begin, synfluid_xen_image_end};
#else
  return {};
#endif
}

std::span<const std::byte> process_image() {
#ifdef SYNFLUID_PROCESS_IMAGE
  return {synfluid_process_image_begin, synfluid_process_image_end};
#else
  return {};
#endif
}

}  // namespace synfluid::guest
