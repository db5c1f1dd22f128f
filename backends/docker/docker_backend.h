// Attempts as containers of a Docker engine or of Podman's service, over the Engine API: one class, what differs is data
// (Flavour). Nothing is polled: one stream of events says what ends, and after a connection was lost one list says what was
// missed. A container is named after its attempt, so that a submission that is repeated finds itself.
#pragma once

#include <memory>

#include "ir/plan.h"
#include "runtime/backend.h"
#include "support/result.h"

namespace jobc {

/// `kind`: Docker or Podman. Error: no engine answers, or it may not be used; the message says what to type (exit 14).
Result<std::unique_ptr<Backend>> MakeDockerBackend(ir::BackendKind kind, const BackendHost& host);

}  // namespace jobc
