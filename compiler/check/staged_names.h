// Names under which `$INPUT_PATH` shows the inputs of a job that keeps its image's ENTRYPOINT (`image_args`): there, beside
// its own directory, each File input also stands by its own name, as images made for SmartJob expect. So two of one name
// cannot both be seen (E701): told by the check where names are constant, by the plan stage where parameters decide, and
// by staging where only the run does.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "compiler/diagnostics/diagnostics.h"
#include "ir/plan.h"

namespace jobc::check {

/// The last part of the path of a File expression, where the expression alone tells.
std::optional<std::string> StagedName(const ir::Plan& plan, ir::ExprId value);
/// Reports inputs of `job` whose names are the same. `name_of`: of an input of type File or File?, if it is known.
/// `span_of`: where it is declared. True if there was one.
bool CheckInputNames(const ir::Plan& plan, const ir::Job& job, const std::function<std::optional<std::string>(size_t)>& name_of,
                     const std::function<Span(size_t)>& span_of, Diagnostics& diags);

}  // namespace jobc::check
