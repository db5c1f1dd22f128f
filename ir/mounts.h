// The option `mounts` of container backends: what it says, and which mounts cannot stand beside each other. Read by the
// compiler, which refuses them before anything runs, and by the backends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ir/plan.h"
#include "ir/value.h"

namespace jobc::ir {

/// A directory or file of the engine's machine that attempts see beside their own places.
struct Mount {
  std::string name;        ///< of the mount: `$JOB_MOUNT_<name>` holds `target`
  bool volume = false;     ///< `source` names a volume of the engine, else it is a path of its machine
  std::string source;
  std::string target;      ///< path in the container
  bool read_only = true;
  bool create = false;     ///< of a volume: it is made if it is not there
};

/// The mounts of an evaluated option `mounts`, by name; a map of name to
/// `{"read_only": Bool, "source": String, "target": String, "type": "bind" | "volume"}`, with `"create": Bool` or without. What is not of that form is left out.
std::vector<Mount> MountsOf(const Value& option);
/// The mounts of a job whose option can be evaluated in `context`; empty where there is none.
std::vector<Mount> MountsOf(const Job& job, class Evaluator& evaluator, class EvalContext& context);

/// Where a mount without a `target` is seen.
std::string DefaultTarget(std::string_view name);

enum class MountPart : uint8_t { Name, Source, Target };

/// Why a mount cannot be made. `message` follows "the mount `x` ", as "is mounted over …".
struct MountFault {
  size_t mount = 0;
  size_t other = SIZE_MAX;   ///< the one it is at odds with
  MountPart part = MountPart::Target;
  std::string message;
  std::string label;
  std::string help;
};

/// Each mount at most once, in order.
std::vector<MountFault> FaultsOf(const std::vector<Mount>& mounts, BackendKind kind);
/// Why `path` cannot be the working directory of a container; "" where it can.
std::string WorkdirFault(std::string_view path);
/// What is wrong with a text as the place of `staging` (a folder, `s3://…`, `gs://…`), by itself; empty: nothing.
std::string StagingFault(std::string_view place);

}  // namespace jobc::ir
