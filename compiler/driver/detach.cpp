#include "compiler/driver/detach.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "ir/json.h"
#include "support/exit_code.h"

namespace jobc {

std::optional<int> Detach::Split(bool json, Terminal& terminal) {
  auto fail = [&](const char* what) {
    terminal.Err(fmt::format("error: cannot detach: {}\n", process::SystemError(what, errno).message));
    return kExitEnvironment;
  };
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return fail("a pipe");
  process::UniqueFd read_end(ends[0]);
  told_.Reset(ends[1]);
  const pid_t child = fork();
  if (child < 0) return fail("fork");
  if (child == 0) return std::nullopt;
  told_.Reset();
  std::string id;
  char bytes[64];
  for (;;) {
    ssize_t count = read(read_end.get(), bytes, sizeof bytes);
    if (count > 0) id.append(bytes, static_cast<size_t>(count));
    if (count == 0 || (count < 0 && errno != EINTR)) break;
  }
  if (!id.empty()) {
    terminal.Out(json ? fmt::format("{{\"pid\":{},\"run\":{},\"schema\":\"jobc.detach/1\"}}\n", child, ir::JsonQuote(id)) : id + "\n");
    if (!json) terminal.Err(fmt::format("the run goes on without this terminal\n  jobc watch {0}\n  jobc cancel {0}\n", id));
    return kExitOk;
  }
  // It ended before it could leave, and has said why.
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

Result<void> Detach::Leave(const std::string& run_id, const std::string& run_dir, Terminal& terminal) {
  terminal.Flush();
  terminal.set_color(ColorChoice::Never);
  const std::string path = run_dir + "/console.log";
  process::UniqueFd none(open("/dev/null", O_RDONLY | O_CLOEXEC));
  process::UniqueFd console(open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  if (!none || !console) return process::SystemError(!none ? "/dev/null" : path, errno);
  setsid();
  if (dup2(none.get(), STDIN_FILENO) < 0 || dup2(console.get(), STDOUT_FILENO) < 0 || dup2(console.get(), STDERR_FILENO) < 0) return process::SystemError(path, errno);
  // If nobody waits any more, the run goes on all the same.
  for (size_t done = 0; done < run_id.size();) {
    ssize_t count = write(told_.get(), run_id.data() + done, run_id.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    done += static_cast<size_t>(count);
  }
  told_.Reset();
  return {};
}

}  // namespace jobc
