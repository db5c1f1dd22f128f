#include "backends/registry.h"

#include <fmt/format.h>

#include "backends/process/process_backend.h"

namespace jobc {

bool IsBuilt(ir::BackendKind kind) { return kind == ir::BackendKind::Process; }

Result<std::unique_ptr<Backend>> MakeBackend(ir::BackendKind kind, const BackendHost& host) {
  if (kind == ir::BackendKind::Process) {
    return MakeProcessBackend(host);
  }
  return Error{fmt::format("the backend `{}` is not available in this version of jobc; choose a profile that uses `process`, or `--profile none`", ir::BackendName(kind))};
}

}  // namespace jobc
