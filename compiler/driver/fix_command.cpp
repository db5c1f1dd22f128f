// `jobc fix`: applies the helps that are certain (fix.h) to the files.
#include <fmt/format.h>

#include "compiler/driver/fix.h"
#include "compiler/driver/load.h"
#include "compiler/driver/terminal.h"
#include "ir/json.h"
#include "support/exit_code.h"
#include "support/write_file.h"

namespace jobc {
int RunFix(const Invocation& invocation, Terminal& terminal) {
  std::vector<std::string> files = invocation.arguments();
  if (files.empty()) files = FilesIn(".", ".job");
  if (files.empty()) {
    terminal.Err(RenderUsageError({"there is no .job file in the working directory", {"name a file:  jobc fix FILE"}}, terminal.err_color()));
    return kExitUsage;
  }
  SourceManager sources;
  std::vector<SourceId> roots;
  for (const std::string& file : files) {
    if (file == "-") {
      terminal.Err(RenderUsageError({"stdin cannot be written back", {"name a file:  jobc fix FILE"}}, terminal.err_color()));
      return kExitUsage;
    }
    LoadedRoot root = LoadRoot(file, sources);
    if (root.error) {
      terminal.Err(RenderUsageError(*root.error, terminal.err_color()));
      return kExitUsage;
    }
    roots.push_back(*root.source);
  }
  const bool dry = invocation.Has("--dry-run");
  std::string json;
  size_t fixes = 0, errors = 0, warnings = 0;
  for (size_t i = 0; i < files.size(); ++i) {
    const Source& source = sources[roots[i]];
    const FixedText fixed = FixText(source.name, source.directory, source.text);
    errors += fixed.errors_left;
    warnings += fixed.warnings_left;
    fixes += fixed.fixes.size();
    if (!dry && fixed.text != source.text) {
      if (Result<void> written = WriteNamedFile(files[i], fixed.text); !written.ok()) {
        terminal.Err(RenderUsageError({written.error().message, {}}, terminal.err_color()));
        return kExitEnvironment;
      }
    }
    for (const AppliedFix& each : fixed.fixes) {
      if (invocation.json()) {
        json += fmt::format("{}{{\"code\":\"{}\",\"column\":{},\"file\":{},\"help\":{},\"line\":{}}}", json.empty() ? "" : ",", each.code, each.at.column,
                            ir::JsonQuote(source.name), ir::JsonQuote(each.help), each.at.line);
      } else {
        terminal.Out(fmt::format("{}:{}:{}: {}: {}\n", source.name, each.at.line, each.at.column, each.code, each.help));
      }
    }
  }
  if (invocation.json()) {
    terminal.Out(fmt::format("{{\"errors_left\":{},\"fixes\":[{}],\"schema\":\"jobc.fixes/1\",\"warnings_left\":{}}}\n", errors, json, warnings));
  } else {
    terminal.Err(fmt::format("{} {}{}{}\n", fixes, fixes == 1 ? "fix" : "fixes", dry ? " would be applied" : " applied",
                             errors + warnings == 0 ? "" : fmt::format("; {} left, which need a decision:  jobc check {}", errors + warnings, fmt::join(invocation.arguments(), " "))));
  }
  return errors > 0 ? kExitDiagnostics : kExitOk;
}

}  // namespace jobc
