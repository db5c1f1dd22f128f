#include "compiler/driver/commands.h"

#include <iterator>

namespace jobc {
namespace {

constexpr OptionSpec kGlobalOptions[] = {
    {"--color", "", ValueKind::Choice, "auto|always|never", "colour the output; auto: on a terminal, unless NO_COLOR is set"},
    {"--json", "", ValueKind::None, "", "machine-readable output on stdout"},
    {"--help", "-h", ValueKind::None, "", "show this text"},
};

#define JOBC_FORMAT_OPTION                                             \
  {"--format", "", ValueKind::Choice, "text|json|sarif|github",        \
   "how diagnostics are written; all but text go to stdout (default: text)"}

#ifdef JOBC_WITH_COMPILER
constexpr ArgumentSpec kCheckArguments[] = {
    {"FILE", ValueKind::File, "the .job files to check; without any, all in the working directory", true, true},
};
constexpr OptionSpec kCheckOptions[] = {
    JOBC_FORMAT_OPTION,
};
#endif

constexpr ArgumentSpec kExplainArguments[] = {
    {"CODE", ValueKind::Code, "the code of a diagnostic, such as E202; without one, all codes are listed", true},
};

constexpr ArgumentSpec kHelpArguments[] = {
    {"COMMAND", ValueKind::Command, "the command to explain", true},
};

constexpr CommandSpec kCommands[] = {
#ifdef JOBC_WITH_COMPILER
    {"check", "parse and check types under all profiles; touches nothing but the sources",
     "Reads the files and what they import, and reports every fault in them at once. Nothing is run, no other file is\n"
     "looked at. Exits with 3 if there is an error; warnings alone give 0.",
     kCheckArguments, kCheckOptions, RunCheck},
#endif
    {"explain", "the long text on a diagnostic, with an example of wrong and right", "", kExplainArguments, {}, RunExplain},
    {"version", "print the version of jobc", "", {}, {}, RunVersion},
    {"help", "show how a command is used", "", kHelpArguments, {}, RunHelp},
};

}  // namespace

std::span<const CommandSpec> Commands() { return kCommands; }
std::span<const OptionSpec> GlobalOptions() { return kGlobalOptions; }

const CommandSpec* FindCommand(std::string_view name) {
  for (const CommandSpec& command : kCommands) {
    if (command.name == name) return &command;
  }
  return nullptr;
}

}  // namespace jobc
