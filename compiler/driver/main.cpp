// The program: builds the terminal, finds the command, runs it, and makes sure that what it wrote has arrived.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>
#include <uv.h>

#include <csignal>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

#include "compiler/driver/command_line.h"
#include "compiler/driver/terminal.h"
#include "support/exit_code.h"

namespace {

/// A descriptor that was closed by whatever started jobc must not be given to the next file that is opened.
void OpenStandardStreams() {
  for (int fd = 0; fd <= 2; ++fd) {
    if (fcntl(fd, F_GETFD) == -1 && errno == EBADF) (void)open("/dev/null", fd == 0 ? O_RDONLY : O_WRONLY);
  }
}

/// A reader that goes away makes write() fail with EPIPE. A handler and not SIG_IGN: children get the default back.
void CatchSigpipe() {
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  action.sa_flags = SA_RESTART;
  sigaction(SIGPIPE, &action, nullptr);
}

int RunCommand(const std::vector<std::string>& words, jobc::Terminal& terminal) {
  const jobc::ParsedCommandLine parsed = jobc::ParseCommandLine(words);
  if (parsed.error) {
    terminal.Err(jobc::RenderUsageError(*parsed.error, terminal.err_color()));
    return jobc::kExitUsage;
  }
  const jobc::Invocation& invocation = *parsed.invocation;
  const std::string_view color = invocation.ValueOr("--color", "auto");
  terminal.set_color(color == "always"  ? jobc::ColorChoice::Always
                     : color == "never" ? jobc::ColorChoice::Never
                                        : jobc::ColorChoice::Auto);
  return invocation.command().run(invocation, terminal);
}

}  // namespace

int main(int argc, char** argv) {
  OpenStandardStreams();
  CatchSigpipe();
  jobc::Terminal terminal(STDOUT_FILENO, STDERR_FILENO);
  int code = jobc::kExitInternal;
  try {
    code = RunCommand(std::vector<std::string>(argv + (argc > 0 ? 1 : 0), argv + argc), terminal);
  } catch (const std::exception& error) {
    // Every expected failure is a value; what arrives here is a bug, or memory has run out.
    terminal.Err(fmt::format("error: internal error: {}\n  = help: please report this, with the command and the file\n", error.what()));
  }
  // The threads of libuv end here and not after main(), when libcrypto has gone already and what it keeps for each of them is lost.
  uv_library_shutdown();
  terminal.Flush();
  if (terminal.out_error() != 0) {
    terminal.Err(fmt::format("error: cannot write to stdout: {}\n", strerror(terminal.out_error())));
    if (code == jobc::kExitOk) code = jobc::kExitEnvironment;
  }
  return code;
}
