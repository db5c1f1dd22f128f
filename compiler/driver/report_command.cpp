// `jobc report`: a run as one HTML page (run_report.h).
#include <fmt/format.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "compiler/driver/run_report.h"
#include "compiler/driver/runs.h"
#include "support/exit_code.h"

namespace jobc {
namespace {

/// The file is there as a whole or not at all. 0 or an errno value.
int ReplaceFile(const std::string& path, std::string_view text) {
  const std::string unfinished = fmt::format("{}.{}.new", path, getpid());
  const int fd = open(unfinished.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return errno;
  int failure = 0;
  while (!text.empty() && failure == 0) {
    const ssize_t count = write(fd, text.data(), text.size());
    if (count >= 0) {
      text.remove_prefix(static_cast<size_t>(count));
    } else if (errno != EINTR) {
      failure = errno;
    }
  }
  if (close(fd) != 0 && failure == 0) failure = errno;
  if (failure == 0 && rename(unfinished.c_str(), path.c_str()) != 0) failure = errno;
  if (failure != 0) unlink(unfinished.c_str());
  return failure;
}

}  // namespace

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
  if (const int failure = ReplaceFile(std::string(*file), text); failure != 0) {
    return FailCommand(terminal, kExitEnvironment, fmt::format("cannot write `{}`: {}", *file, std::strerror(failure)));
  }
  return kExitOk;
}

}  // namespace jobc
