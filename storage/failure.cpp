#include "storage/failure.h"

#include <algorithm>

namespace jobc::storage {

int64_t Retries::Next(const Failure& failure, bool progressed) {
  failed_ = progressed ? 1 : failed_ + 1;
  if (!MayHelp(failure.kind) || failed_ >= policy_.tries) {
    return -1;
  }
  int64_t delay = policy_.base_ms;
  for (int i = 1; i < failed_ && delay < policy_.max_ms; ++i) {
    delay *= 2;
  }
  delay = std::min(delay, policy_.max_ms);
  // Half of it at random: many transfers that were cut at the same moment do not come back at the same moment.
  state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
  delay = delay / 2 + static_cast<int64_t>((state_ >> 33) % static_cast<uint64_t>(delay / 2 + 1));
  return std::max(delay, std::min(failure.retry_after_ms, policy_.most_ms));
}

}  // namespace jobc::storage
