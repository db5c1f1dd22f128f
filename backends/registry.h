// All backends of this program, by kind. main() passes MakeBackend to the engine; the compiler knows the same eleven
// kinds from their option schemas, also those that cannot run yet.
#pragma once

#include <memory>

#include "ir/plan.h"
#include "runtime/backend.h"
#include "support/result.h"

namespace jobc {

/// Whether MakeBackend() can make one of this kind.
bool IsBuilt(ir::BackendKind kind);

/// The error names the kind, and what to use instead (exit 14).
Result<std::unique_ptr<Backend>> MakeBackend(ir::BackendKind kind, const BackendHost& host);

}  // namespace jobc
