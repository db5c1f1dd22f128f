// What both `plan --since`, `explain run` and `diff` print: differences of cache keys with their causes and source lines.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "compiler/driver/command_line.h"
#include "compiler/driver/compile.h"
#include "compiler/driver/terminal.h"
#include "runtime/why.h"

namespace jobc {

/// `plan --since RUN` and `plan --exit-code`: what a run with `--resume RUN` would do. `run` empty: the last run, or that
/// there is none. Returns the exit code.
int ShowForecast(const Compiled& compiled, const std::string& run, const Invocation& invocation, Terminal& terminal);

/// Both values and the line of the source, indented, for people.
std::string DifferenceLines(const PartDifference& difference, const ir::Plan& before, uint32_t job_before, const ir::Plan& now, uint32_t job_now, const std::string& root);
/// Places that were looked up in the source, by job and part.
using PartPlaces = std::map<std::pair<uint32_t, std::string>, PartPlace>;
/// One JSON object.
std::string DifferenceJson(const PartDifference& difference, const ir::Plan& now, uint32_t job_now, const std::string& root, PartPlaces& places);

/// An absolute path; the working directory for an empty one.
std::string AbsolutePath(const std::string& path);

}  // namespace jobc
