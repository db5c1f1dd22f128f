// Attempts as containers of a Docker engine or of Podman's service, over the Engine API: one class, what differs is data
// (Flavour). Nothing is polled: one stream of events says what ends, and after a connection was lost one list says what was
// missed. A container is named after its attempt, so that a submission that is repeated finds itself.
#pragma once

#include <cstdint>
#include <memory>

#include "ir/plan.h"
#include "runtime/backend.h"
#include "support/result.h"

namespace jobc {

/// How long those that say nothing are waited for; in milliseconds.
struct DockerTimes {
  int64_t request_ms = 120'000;  ///< for the answer to any one request; it fails then
  int64_t silence_ms = 30'000;   ///< without a word of it while attempts are there, until it is asked whether it lives
  int64_t ping_ms = 5'000;       ///< for the answer to that; after three without one people are told
  int64_t silent_ms = 180'000;   ///< without an answer, until all connections to it are made anew
  int64_t stream_ms = 10'000;    ///< until the stream of events begins
  int64_t pull_ms = 300'000;     ///< without a word about an image that is being pulled, until that is ended
  int64_t unpack_ms = 1'800'000; ///< the same, once all of it has come
  int64_t patience_ms = 60'000;  ///< while nobody is there at all, until its attempts are lost
};

/// `kind`: Docker or Podman. Error: no engine answers, or it may not be used; the message says what to type (exit 14).
Result<std::unique_ptr<Backend>> MakeDockerBackend(ir::BackendKind kind, const BackendHost& host, const DockerTimes& times = {});

}  // namespace jobc
