#include <fmt/format.h>

#include "compiler/check/check.h"
#include "compiler/driver/load.h"
#include "compiler/driver/report.h"
#include "support/exit_code.h"

namespace jobc {

int RunCheck(const Invocation& invocation, Terminal& terminal) {
  std::vector<std::string> files = invocation.arguments();
  if (files.empty()) {
    files = FilesIn(".", ".job");
    if (files.empty()) {
      terminal.Err(RenderUsageError({"there is no .job file in the working directory", {"name a file:  jobc check FILE"}},
                                    terminal.err_color()));
      return kExitUsage;
    }
  }
  SourceManager sources;
  Diagnostics diags;
  // All files are opened before the first is checked: a mistyped name is reported at once, and alone.
  std::vector<SourceId> roots;
  for (const std::string& file : files) {
    LoadedRoot root = LoadRoot(file, sources);
    if (root.error) {
      terminal.Err(RenderUsageError(*root.error, terminal.err_color()));
      return kExitUsage;
    }
    roots.push_back(*root.source);
  }
  for (const SourceId root : roots) Check(root, sources, diags);
  const int code = ReportDiagnostics(invocation, terminal, sources, diags);
  // A person who sees nothing may think that nothing was done; a log file needs no such line.
  if (diags.all().empty() && terminal.err_is_terminal() && !invocation.json()) {
    terminal.Err(files.size() == 1 ? fmt::format("{}: no errors\n", files.front()) : fmt::format("{} files: no errors\n", files.size()));
  }
  return code;
}

}  // namespace jobc
