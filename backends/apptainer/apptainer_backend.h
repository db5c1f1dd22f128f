// Attempts in images of Apptainer or Singularity: the tool is an ordinary process of this machine, so everything that the
// process backend does about processes (trees, limits, logs, ends when jobc ends) holds for it, and is done by one. The
// program is started by the init program of containers, which says whether it was it or the tool that failed.
#pragma once

#include <memory>

#include "runtime/backend.h"
#include "support/result.h"

namespace jobc {

/// Error: neither tool is on the PATH (exit 14).
Result<std::unique_ptr<Backend>> MakeApptainerBackend(const BackendHost& host);

/// The tool that is used: `command` (`apptainer`, `singularity`; empty: the first of the two that is there), looked for on
/// jobc's PATH. Absolute; the error says what to type.
Result<std::string> FindApptainer(const std::string& command);

}  // namespace jobc
