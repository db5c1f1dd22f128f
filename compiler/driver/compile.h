// From a command line to a plan: the five stage calls in a row, for every command that takes a FILE.
#pragma once

#include <optional>
#include <string>

#include "compiler/diagnostics/diagnostics.h"
#include "compiler/driver/command_line.h"
#include "compiler/driver/terminal.h"
#include "compiler/lower/lower.h"
#include "compiler/source/source.h"
#include "ir/plan.h"

namespace jobc {

struct Compiled {
  std::optional<ir::Plan> plan;
  int exit_code = 0;            ///< where there is no plan: why
  std::string root_directory;   ///< relative paths of base `source` start here; "" is the working directory
  std::string root_path;        ///< the file as it was given
  bool from_plan = false;       ///< it is a plan: paths of base `cwd` start at its directory, too
};

/// Reads `path` (a `.job` file, or a plan written by `jobc plan -o`), takes `-p`, `--profile` and JOB_PARAM_* from the
/// invocation and the environment, and reports what is wrong. `bounds`: see LowerOptions.
Compiled CompileFile(const std::string& path, const Invocation& invocation, Terminal& terminal, bool bounds = false);

/// The options of the invocation as Lower() wants them. `-p` values without `=` are a UsageError.
std::optional<UsageError> ReadLowerOptions(const Invocation& invocation, LowerOptions& options);

}  // namespace jobc
