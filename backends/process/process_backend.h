// Attempts as processes of this machine, started and ended by the run's guardian (runtime/process/guardian.h): whatever
// an attempt leaves behind ends with it, and everything ends when jobc does. Directories come from AttemptDirs, output
// goes into the run's log pack. Lives on the engine's loop.
#pragma once

#include <memory>

#include "runtime/backend.h"
#include "support/result.h"

namespace jobc {

/// Takes the guardian of `host`, or launches one where there is none.
Result<std::unique_ptr<Backend>> MakeProcessBackend(const BackendHost& host);

}  // namespace jobc
