// Containers that a dead jobc left at an engine, for `jobc gc`: found by their labels, removed one by one. Blocking; not for
// the engine's loop.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "backends/docker/endpoint.h"
#include "ir/plan.h"
#include "support/result.h"

namespace jobc::docker {

struct Leftover {
  std::string id;
  std::string run;          ///< label: the run's id
  std::string attempt;      ///< label: the execution id
  std::string instance;     ///< label: the address
  std::string secrets;      ///< label: directory of its secret files on this machine; may be empty
  std::string status;       ///< `running`, `exited` …
  int64_t created_ms = 0;   ///< wall clock of the engine
};

/// GET /containers/json, read for labels. Nothing: it is no such answer.
std::optional<std::vector<Leftover>> ParseLeftovers(std::string_view body);

/// All containers of runs of a state directory. Error: nobody answers there, or may not be asked.
Result<std::vector<Leftover>> ListLeftovers(const Endpoint& endpoint, const std::string& state_dir);
/// Kills it if it runs, and removes it. What is not there any more is no error.
Result<void> RemoveLeftover(const Endpoint& endpoint, const Leftover& leftover);

}  // namespace jobc::docker
