#include <fmt/format.h>

#include "compiler/check/check.h"
#include "compiler/driver/load.h"
#include "compiler/driver/report.h"
#include "support/exit_code.h"

namespace jobc {

int RunCheck(const Invocation& invocation, Terminal& terminal) {
  SourceManager sources;
  Diagnostics diags;
  const LoadedRoots roots = LoadRoots(invocation.arguments(), "check", sources);
  if (roots.error) {
    terminal.Err(RenderUsageError(*roots.error, terminal.err_color()));
    return kExitUsage;
  }
  for (const SourceId root : roots.sources) Check(root, sources, diags);
  const int code = ReportDiagnostics(invocation, terminal, sources, diags);
  // A person who sees nothing may think that nothing was done; a log file needs no such line.
  if (diags.all().empty() && terminal.err_is_terminal() && !invocation.json()) {
    terminal.Err(roots.files.size() == 1 ? fmt::format("{}: no errors\n", roots.files.front()) : fmt::format("{} files: no errors\n", roots.files.size()));
  }
  return code;
}

}  // namespace jobc
