// `jobc report`: a run as one HTML page (run_report.h).
#include "compiler/driver/run_report.h"
#include "compiler/driver/runs.h"
#include "support/exit_code.h"
#include "support/write_file.h"

namespace jobc {
int RunReport(const Invocation& invocation, Terminal& terminal) {
  const std::optional<std::string_view> file = invocation.Value("--output");
  if (!file && !invocation.json() && terminal.out_is_terminal()) {
    terminal.Err(RenderUsageError({"the report is a page of HTML, which a terminal does not show", {"write it to a file:  jobc report -o report.html"}}, terminal.err_color()));
    return kExitUsage;
  }
  OpenedRun opened = OpenRun(invocation, invocation.arguments().empty() ? "" : invocation.arguments()[0], terminal);
  if (opened.reader == nullptr) return opened.exit_code;
  const std::string text = invocation.json() ? RunReportJson(*opened.reader, {}) : RunReportHtml(*opened.reader, {});
  if (!file || *file == "-") {
    terminal.Out(text);
    return kExitOk;
  }
  if (Result<void> written = WriteNamedFile(std::string(*file), text); !written.ok()) {
    return FailCommand(terminal, kExitEnvironment, written.error().message);
  }
  return kExitOk;
}

}  // namespace jobc
