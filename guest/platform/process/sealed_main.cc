#include "guest/platform/process/guest.h"

namespace synfluid::guest::process {

void sealed_main(Platform& platform) {
  guest_main(platform);
}

}  // namespace synfluid::guest::process
