// Why something could not be read from or written to a storage, in words for a person, and whether trying again may help.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include "support/check.h"

namespace jobc::storage {

enum class FailureKind : uint8_t {
  Network,   ///< no connection, or it was cut
  Busy,      ///< the server asks to come back: 429, 500, 502, 503, 504
  Auth,      ///< credentials are missing, wrong or not enough
  Missing,   ///< there is no such object or bucket
  Changed,   ///< the object is not the one that was asked for
  Exists,    ///< it was to be made, and is there
  Refused,   ///< any other answer of the server
  Local,     ///< this machine's disk
};

struct Failure {
  FailureKind kind = FailureKind::Refused;
  std::string message;         ///< with the address, lower case, no final period
  int64_t retry_after_ms = 0;  ///< what the server asked for
  int status = 0;              ///< of HTTP; 0: no answer
};

/// Whether the same request may succeed later.
constexpr bool MayHelp(FailureKind kind) { return kind == FailureKind::Network || kind == FailureKind::Busy; }

/// A value or why there is none.
template <typename T>
class [[nodiscard]] Outcome {
 public:
  Outcome(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Outcome(Failure failure) : state_(std::in_place_index<1>, std::move(failure)) {}

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }
  T& operator*() { JOBC_CHECK(ok()); return *std::get_if<0>(&state_); }
  const T& operator*() const { JOBC_CHECK(ok()); return *std::get_if<0>(&state_); }
  T* operator->() { return &**this; }
  const T* operator->() const { return &**this; }
  const Failure& failure() const { JOBC_CHECK(!ok()); return *std::get_if<1>(&state_); }

 private:
  std::variant<T, Failure> state_;
};

/// When to try again. Pure; the caller keeps the time.
struct RetryPolicy {
  int tries = 6;               ///< in a row that gave nothing, the first included
  int64_t base_ms = 250;       ///< doubled each time
  int64_t max_ms = 20'000;
  int64_t most_ms = 60'000;    ///< of a server's `Retry-After`
};

class Retries {
 public:
  Retries() = default;
  explicit Retries(const RetryPolicy& policy, uint64_t seed) : policy_(policy), state_(seed * 2 + 1) {}
  /// Milliseconds to wait before the next try; below 0: it is over. `progressed`: bytes had come since the last one, so
  /// counting begins anew.
  int64_t Next(const Failure& failure, bool progressed);
  int failed() const { return failed_; }   ///< in a row

 private:
  RetryPolicy policy_;
  uint64_t state_ = 1;
  int failed_ = 0;
};

}  // namespace jobc::storage
