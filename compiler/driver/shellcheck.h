// Shellcheck over the shell scripts of a file, for `jobc lint`: what it finds is told at its place inside the heredoc (W490).
// Values that `~{x}` puts in are references that jobc wrote; nothing is told of them. Where shellcheck is not installed,
// nothing is told at all. Starts processes and writes to a temporary directory, which is gone when it returns.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "compiler/check/model.h"
#include "compiler/diagnostics/diagnostics.h"
#include "compiler/source/source.h"

namespace jobc {

/// Emits W490 for each finding. `program`: looked for in PATH. All scripts are given to a few processes, as many at once as
/// there are processors.
void RunShellcheck(const std::vector<ShellScript>& scripts, const SourceManager& sources, Diagnostics& diags, const std::string& program = "shellcheck");

/// What shellcheck (`--format=json1`) said of `scripts[i]`, whose text stood in a file called `i.sh` behind Preamble().
void EmitFindings(std::string_view json, const std::vector<ShellScript>& scripts, const SourceManager& sources, Diagnostics& diags);

/// The line that is put before a script: what its interpreter is told to do on the command line.
std::string_view Preamble(const ShellScript& script);

}  // namespace jobc
