#include "compiler/check/check.h"
#include "compiler/driver/load.h"
#include "compiler/driver/plan_text.h"
#include "compiler/driver/report.h"
#include "support/exit_code.h"

namespace jobc {

int RunInputs(const Invocation& invocation, Terminal& terminal) {
  SourceManager sources;
  LoadedRoot root = LoadRoot(invocation.arguments().front(), sources);
  if (root.error) {
    terminal.Err(RenderUsageError(*root.error, terminal.err_color()));
    return kExitUsage;
  }
  Diagnostics diags;
  Model model = Check(*root.source, sources, diags);
  int code = ReportDiagnostics(invocation, terminal, sources, diags, true);
  if (code != kExitOk) return code;
  terminal.Out(InputsText(model, invocation.json()));
  return kExitOk;
}

}  // namespace jobc
