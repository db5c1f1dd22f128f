#include <fmt/format.h>

#include "compiler/driver/command_line.h"
#include "compiler/driver/terminal.h"
#include "compiler/driver/version.h"
#include "support/exit_code.h"

namespace jobc {

int RunHelp(const Invocation& invocation, Terminal& terminal) {
  if (invocation.arguments().empty()) {
    terminal.Out(HelpText(Version()));
    return kExitOk;
  }
  const std::string& name = invocation.arguments().front();
  const CommandSpec* const command = FindCommand(name);
  if (command == nullptr) {
    // Parsed as a command line of its own, the word gets the same advice as when it is typed in first place.
    const ParsedCommandLine parsed = ParseCommandLine({name});
    terminal.Err(RenderUsageError(parsed.error.value_or(UsageError{fmt::format("there is no command `{}`", name), {}}),
                                  terminal.err_color()));
    return kExitUsage;
  }
  terminal.Out(HelpText(*command));
  return kExitOk;
}

}  // namespace jobc
