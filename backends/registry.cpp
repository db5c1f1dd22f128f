#include "backends/registry.h"

#include <fmt/format.h>

#include "backends/apptainer/apptainer_backend.h"
#include "backends/docker/docker_backend.h"
#include "backends/process/process_backend.h"

namespace jobc {

bool IsBuilt(ir::BackendKind kind) {
  return kind == ir::BackendKind::Process || kind == ir::BackendKind::Docker || kind == ir::BackendKind::Podman || kind == ir::BackendKind::Apptainer;
}

Result<std::unique_ptr<Backend>> MakeBackend(ir::BackendKind kind, const BackendHost& host) {
  if (kind == ir::BackendKind::Process) {
    return MakeProcessBackend(host);
  }
  if (kind == ir::BackendKind::Docker || kind == ir::BackendKind::Podman) {
    return MakeDockerBackend(kind, host);
  }
  if (kind == ir::BackendKind::Apptainer) {
    return MakeApptainerBackend(host);
  }
  return Error{fmt::format("the backend `{}` is not available in this version of jobc; choose a profile that uses `process`, or `--profile none`", ir::BackendName(kind))};
}

}  // namespace jobc
