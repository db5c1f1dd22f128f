// Room for deep recursion: what people declare may refer to each other in long chains, and the compiler follows them.
#pragma once

#include <sys/resource.h>

#include <cstddef>

namespace jobc {

/// While it lives, the stack of the main thread may grow to `bytes`, as far as the hard limit allows. Linux looks at the
/// soft limit when the stack grows and keeps at least 128 MB of addresses free below it, so `bytes` is best below that.
/// Programs that are started meanwhile would inherit the limit: start none.
class StackRoom {
 public:
  explicit StackRoom(size_t bytes);
  ~StackRoom();
  StackRoom(const StackRoom&) = delete;
  StackRoom& operator=(const StackRoom&) = delete;

 private:
  rlimit before_{};
  bool raised_ = false;
};

}  // namespace jobc
