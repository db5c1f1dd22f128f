// A run as its journal has it, as a RunState: expressions of its plan can be evaluated as they were when it ended.
// Read-only; secrets have no values. For `explain`.
#pragma once

#include <memory>

#include "runtime/attempt_context.h"
#include "runtime/run_reader.h"
#include "runtime/run_state.h"
#include "support/result.h"

namespace jobc {

struct RestoredRun {
  std::unique_ptr<World> world;
  std::unique_ptr<RunState> state;

  /// `reader` must outlive it.
  static Result<std::unique_ptr<RestoredRun>> Of(RunReader& reader);
};

}  // namespace jobc
