// Plans as people read them: the overview of `jobc plan`, the instances of `--expand`, the graph, the parameters.
#pragma once

#include <string>

#include "compiler/check/model.h"
#include "compiler/driver/terminal.h"
#include "ir/plan.h"

namespace jobc {

/// One line a declared job: instances, where it runs, what it claims, what it waits for, what it runs.
std::string PlanTable(const ir::Plan& plan, const std::string& name);
/// Every instance that is known before the run, with its dependencies and its command. `json`: one object a line.
int ExpandPlan(const ir::Plan& plan, const std::string& root_directory, bool json, Terminal& terminal);
/// The checked model, stage `check` of --stop-after.
std::string DumpModel(const Model& model);
/// Declared jobs and their dependencies; scatters are one node. `format`: dot, mermaid or json.
/// `critical`: marks the longest path by the worst cases of its jobs.
std::string GraphText(const ir::Plan& plan, std::string_view format, bool critical);
/// `name: Type = value` for every parameter, with what its documentation says. `json`: an array of objects.
std::string InputsText(const Model& model, bool json);

}  // namespace jobc
