// Containers that a dead jobc left at an engine, for `jobc gc`, `jobc cancel` and a new run that uses the results of a dead one: found
// by their labels, ended and removed. Whoever removes some holds the lock of their run. Blocking; not for the engine's loop.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
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
  std::string state;        ///< label: StateLabel()
  std::string secrets;      ///< label: directory of its secret files on this machine; may be empty
  std::string status;       ///< `running`, `exited` …
  int64_t created_ms = 0;   ///< wall clock of the engine
};

/// Its program runs, or has run: a start of it is not still to come.
bool HasBegun(const Leftover& container);

/// GET /containers/json, read for labels. Nothing: it is no such answer.
std::optional<std::vector<Leftover>> ParseLeftovers(std::string_view body);

/// All containers of runs of a state directory. Error: nobody answers there, or may not be asked.
Result<std::vector<Leftover>> ListLeftovers(const Endpoint& endpoint, const std::string& state_dir);
/// Kills it if it runs, and removes it. What is not there any more is no error.
Result<void> RemoveLeftover(const Endpoint& endpoint, const Leftover& leftover);

/// An engine as the jobs of a plan name it; empty: the usual one of this user.
struct EngineName {
  ir::BackendKind kind = ir::BackendKind::Docker;
  std::string host, context;
  friend auto operator<=>(const EngineName&, const EngineName&) = default;
};
EngineName EngineOf(const ir::Plan& plan, const ir::Job& job);
/// Where containers of the plan's jobs run; empty: none of them do.
std::set<EngineName> EnginesOf(const ir::Plan& plan);

struct LeftContainer {
  ir::BackendKind kind = ir::BackendKind::Docker;
  Endpoint endpoint;
  Leftover container;
};
/// All containers of the runs at these engines, each once. Error: one of the engines cannot be asked; for people, with what to type.
Result<std::vector<LeftContainer>> FindContainers(Endpoints& endpoints, const std::set<EngineName>& engines, const std::set<std::string>& runs);

/// TERM to all of them at once; to each KILL when its grace is over; then they are removed, and their secret files. Error: what could
/// not be removed; the others are.
Result<void> EndContainers(const std::vector<LeftContainer>& containers, const std::function<int64_t(const Leftover&)>& grace_ms);

}  // namespace jobc::docker
