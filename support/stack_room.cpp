#include "support/stack_room.h"

#include <algorithm>

namespace jobc {

StackRoom::StackRoom(size_t bytes) {
  if (getrlimit(RLIMIT_STACK, &before_) != 0 || before_.rlim_cur == RLIM_INFINITY || before_.rlim_cur >= bytes) return;
  rlimit more = before_;
  more.rlim_cur = before_.rlim_max == RLIM_INFINITY ? bytes : std::min<rlim_t>(bytes, before_.rlim_max);
  raised_ = setrlimit(RLIMIT_STACK, &more) == 0;
}

StackRoom::~StackRoom() {
  if (raised_) (void)setrlimit(RLIMIT_STACK, &before_);
}

}  // namespace jobc
