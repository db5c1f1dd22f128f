// For tests of what writes to pipes and sockets: as in jobc itself, a reader that goes away makes the write fail and ends nothing.
#include <csignal>

namespace {

const bool kCaught = [] {
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  action.sa_flags = SA_RESTART;
  return sigaction(SIGPIPE, &action, nullptr) == 0;
}();

}  // namespace
