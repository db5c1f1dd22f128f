// `jobc init`: a first file that works, and what to type next. Never overwrites anything.
#include <fcntl.h>
#include <fmt/format.h>
#include <string.h>
#include <unistd.h>

#include <cerrno>

#include "compiler/driver/command_line.h"
#include "compiler/driver/terminal.h"
#include "ir/json.h"
#include "support/exit_code.h"

namespace jobc {
namespace {

constexpr std::string_view kFirstFile = R"JOB(## Counts the words of a few texts: a file to begin with. Change it, and `jobc check` says what it thinks.
edition = 1

params {
  ## The texts, one job each.
  texts: List<String(length(it) > 0)>(length(it) <= 100) = ["to be or not to be", "hello world"]
}

## One instance for each text: `count["0"]`, `count["1"]`, …
job count {
  for i in range(length(params.texts)) key i
  script = <<~SH
    printf '%s\n' "~{params.texts[i]}" | wc -w > words.txt
  SH
  output { words: Int(0..) = to_int(trim(read_text("words.txt"))) }
}

## Waits for all of them, because it uses what they give.
job report {
  run = ["printf", "%s\\n", "~{length(params.texts)} texts have ~{sum([for c in count[*] : c.words])} words"]
  output { line: String = trim(stdout()) }
}

export { line: String = report.line }
)JOB";

}  // namespace

int RunInit(const Invocation& invocation, Terminal& terminal) {
  std::string path = invocation.arguments().empty() ? "main" : invocation.arguments().front();
  if (!path.ends_with(".job")) path += ".job";
  // O_EXCL: a file that appears in between is not overwritten either.
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) {
    if (errno == EEXIST) {
      terminal.Err(RenderUsageError({fmt::format("`{}` is there already; nothing was changed", path), {"give another name:  jobc init NAME", fmt::format("or look at it:  jobc check {}", path)}},
                                    terminal.err_color()));
      return kExitUsage;
    }
    const int why = errno;
    terminal.Err(RenderUsageError({fmt::format("cannot write `{}`: {}", path, strerror(why)), {}}, terminal.err_color()));
    return why == ENOENT || why == ENOTDIR ? kExitUsage : kExitEnvironment;
  }
  int failed = 0;
  for (std::string_view rest = kFirstFile; !rest.empty() && failed == 0;) {
    const ssize_t written = write(fd, rest.data(), rest.size());
    if (written >= 0) rest.remove_prefix(static_cast<size_t>(written));
    else if (errno != EINTR) failed = errno;
  }
  if (close(fd) != 0 && failed == 0) failed = errno;
  if (failed != 0) {
    unlink(path.c_str());
    terminal.Err(RenderUsageError({fmt::format("cannot write `{}`: {}", path, strerror(failed)), {}}, terminal.err_color()));
    return kExitEnvironment;
  }
  if (invocation.json()) {
    terminal.Out(fmt::format("{{\"file\":{},\"schema\":\"jobc.init/1\"}}\n", ir::JsonQuote(path)));
    return kExitOk;
  }
  terminal.Out(fmt::format("wrote {0}; next:\n  jobc check {0}\n  jobc plan {0} --expand\n  jobc run {0}\n  jobc run {0} -p 'texts=[\"one two three\"]'\n", path));
  return kExitOk;
}

}  // namespace jobc
