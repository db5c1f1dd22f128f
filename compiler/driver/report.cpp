#include "compiler/driver/report.h"

#include <algorithm>

#include "compiler/diagnostics/allow.h"
#include "compiler/diagnostics/render.h"
#include "compiler/driver/version.h"
#include "support/exit_code.h"

namespace jobc {

int ReportDiagnostics(const Invocation& invocation, Terminal& terminal, const SourceManager& sources, Diagnostics& diags,
                      bool output_follows) {
  DropAllowed(diags, sources);
  diags.Sort();
  const auto& options = invocation.command().options;
  const bool has_format = std::any_of(options.begin(), options.end(), [](const OptionSpec& o) { return o.name == "--format"; });
  const std::string_view format = output_follows && !diags.has_errors() ? "text" : has_format ? invocation.ValueOr("--format", invocation.json() ? "json" : "text") : "text";
  if (format == "json") {
    terminal.Out(RenderJson(diags, sources));
  } else if (format == "sarif") {
    terminal.Out(RenderSarif(diags, sources, Version()));
  } else if (format == "github") {
    terminal.Out(RenderGithub(diags, sources));
  } else if (!diags.all().empty()) {
    TextOptions text;
    text.color = terminal.err_color();
    if (const int width = terminal.width(); width > 0) text.width = width;
    terminal.Err(RenderText(diags, sources, text));
  }
  return diags.has_errors() ? kExitDiagnostics : kExitOk;
}

}  // namespace jobc
