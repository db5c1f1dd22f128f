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

/// How a plan is chosen: shared by every command that makes one.
#define JOBC_PLAN_OPTIONS                                                                                          \
  {"--param", "-p", ValueKind::Parameter, "NAME=VALUE", "set a parameter, or `@FILE` for a JSON file of them", true}, \
  {"--profile", "", ValueKind::Text, "NAME", "the profile to plan for; `none`: no profile"}

#ifdef JOBC_WITH_COMPILER
constexpr ArgumentSpec kFileArgument[] = {
    {"FILE", ValueKind::File, "the .job file"},
};
constexpr ArgumentSpec kPlanArguments[] = {
    {"FILE", ValueKind::File, "the .job file, or a plan to look at"},
};
constexpr OptionSpec kPlanOptions[] = {
    JOBC_PLAN_OPTIONS,
    {"--output", "-o", ValueKind::File, "FILE", "write the plan there instead of printing it"},
    {"--expand", "", ValueKind::None, "", "list every instance with what it waits for and what it runs"},
    {"--stop-after", "", ValueKind::Choice, "parse|ast|check|plan", "print what that stage makes of the file"},
    {"--dump", "", ValueKind::None, "", "print the plan (or the stage) indented, for people"},
    JOBC_FORMAT_OPTION,
};
constexpr OptionSpec kGraphOptions[] = {
    JOBC_PLAN_OPTIONS,
    {"--as", "", ValueKind::Choice, "dot|mermaid|json", "the form of the graph (default: dot)"},
    JOBC_FORMAT_OPTION,
};
constexpr OptionSpec kInputsOptions[] = {
    JOBC_FORMAT_OPTION,
};
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
    {"plan", "resolve parameters and files, and show or write the execution plan",
     "On a terminal, an overview; otherwise, and with --json, the plan as canonical JSON (jobc.plan/1).",
     kPlanArguments, kPlanOptions, RunPlan},
    {"graph", "the declared jobs and what they wait for, as dot, mermaid or JSON", "", kPlanArguments, kGraphOptions, RunGraph},
    {"inputs", "the parameters of a file: types, defaults, documentation", "", kFileArgument, kInputsOptions, RunInputs},
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
