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

#ifdef JOBC_WITH_COMPILER
#define JOBC_STATE_OPTION {"--state", "", ValueKind::Directory, "DIR", "where runs keep their state (default: $JOBC_HOME, else `.jobc` beside the source)"}

constexpr ArgumentSpec kRunArguments[] = {
    {"FILE", ValueKind::File, "the .job file, or a plan made by `jobc plan -o`"},
};
constexpr OptionSpec kRunOptions[] = {
    JOBC_PLAN_OPTIONS,
    {"--max-parallel", "", ValueKind::Int, "N", "at most N jobs at a time (default: the profile's, else the usable cpus)"},
    {"--on-error", "", ValueKind::Choice, "drain|halt|continue", "what a failure means for the rest; jobs with `ignore` are not changed"},
    {"--name", "", ValueKind::Text, "NAME", "a name for the run, to be used in place of its id"},
    {"--strict", "", ValueKind::None, "", "exit with 11 if the run succeeded but ignored failures"},
    {"--dry-run", "", ValueKind::None, "", "list what would run, and run nothing"},
    {"--publish-to", "", ValueKind::Directory, "DIR", "publish there instead of where the file says"},
    {"--root", "", ValueKind::Directory, "DIR", "for a plan: the directory of its root source (default: that of the plan)"},
    {"--durability", "", ValueKind::Choice, "full|normal", "what a power loss may cost: nothing, or the last moments of the journal"},
    JOBC_STATE_OPTION,
    JOBC_FORMAT_OPTION,
};
constexpr ArgumentSpec kRunArgument[] = {
    {"RUN", ValueKind::Run, "the run (default: the last one)", true},
};
constexpr ArgumentSpec kRunAndJobArguments[] = {
    {"RUN", ValueKind::Run, "the run (default: the last one)", true},
    {"JOB", ValueKind::Job, "a job, or one instance of it: `align`, `align[\"s1\"]`", true},
};
constexpr ArgumentSpec kResultArguments[] = {
    {"RUN", ValueKind::Run, "the run (default: the last one)", true},
    {"JOB", ValueKind::Job, "a job, an instance, or one output of it: `align[\"s1\"].bam`", true},
};
constexpr ArgumentSpec kRetryArguments[] = {
    {"RUN", ValueKind::Run, "the run (default: the last one)", true},
    {"JOB", ValueKind::Job, "only these jobs or instances (default: all that failed)", true, true},
};
constexpr OptionSpec kResumeOptions[] = {
    {"--max-parallel", "", ValueKind::Int, "N", "at most N jobs at a time (default: as the run was started)"},
    JOBC_STATE_OPTION,
};
constexpr OptionSpec kStatusOptions[] = {
    {"--instances", "", ValueKind::None, "", "show every instance, not only failed and running ones"},
    JOBC_STATE_OPTION,
};
constexpr OptionSpec kListOptions[] = {
    {"--last", "", ValueKind::Int, "N", "only the last N runs (default: 30; all with --json)"},
    JOBC_STATE_OPTION,
};
constexpr OptionSpec kLogsOptions[] = {
    {"--follow", "-f", ValueKind::None, "", "go on until the run ends"},
    {"--attempt", "", ValueKind::Int, "N", "that attempt instead of the last one"},
    {"--all", "", ValueKind::None, "", "all attempts"},
    {"--failed", "", ValueKind::None, "", "only failed instances"},
    {"--tail", "", ValueKind::Int, "N", "only the last N lines of each stream"},
    {"--stream", "", ValueKind::Choice, "both|stdout|stderr", "which stream (default: both, in the order they were written)"},
    JOBC_STATE_OPTION,
};
constexpr ArgumentSpec kDoctorArguments[] = {
    {"BACKEND", ValueKind::Text, "only this one; exits with 14 where it cannot be used", true},
};
constexpr OptionSpec kDoctorOptions[] = {
    JOBC_STATE_OPTION,
};
constexpr OptionSpec kResultOptions[] = {
    JOBC_STATE_OPTION,
};
constexpr ArgumentSpec kCompletionArguments[] = {
    {"bash|zsh|fish", ValueKind::Choice, "the shell"},
};
constexpr ArgumentSpec kCompleteArguments[] = {
    {"bash|zsh|fish", ValueKind::Choice, "the shell that asks"},
    {"WORD", ValueKind::Text, "the words after `jobc`, up to the cursor", true, true},
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
    {"run", "plan and execute a file on this machine",
     "Shows progress on stderr and prints the run's exports as JSON on stdout. With --json, one event a line on stdout.\n"
     "The first Ctrl-C cancels all jobs, runs `finally` and exits with 130; a second one ends everything at once.",
     kRunArguments, kRunOptions, RunRun},
    {"resume", "go on with a run that was killed, interrupted or failed",
     "Goes on from the journal with the stored plan: what succeeded, failed or was skipped stays, everything else is decided\n"
     "again. Exits as the run does; with 15 if another process executes it.", kRunArgument, kResumeOptions, RunResume},
    {"retry", "give failed jobs of a run fresh attempts and go on", "", kRetryArguments, kResumeOptions, RunRetry},
    {"status", "what a run did or does: states, attempts, failures", "", kRunArgument, kStatusOptions, RunStatusCommand},
    {"list", "the runs of this directory, newest first", "", {}, kListOptions, RunList},
    {"logs", "what the jobs of a run wrote to stdout and stderr", "", kRunAndJobArguments, kLogsOptions, RunLogs},
    {"result", "the typed outputs of a run, a job or an instance, as JSON",
     "Without a job: the run's exports. Exits with 10 if the run failed.", kResultArguments, kResultOptions, RunResult},
    {"graph", "the declared jobs and what they wait for, as dot, mermaid or JSON", "", kPlanArguments, kGraphOptions, RunGraph},
    {"inputs", "the parameters of a file: types, defaults, documentation", "", kFileArgument, kInputsOptions, RunInputs},
    {"doctor", "what works on this machine, what does not, and what would change that",
     "Also ends and removes what a run left behind whose jobc and guardian were both killed.", kDoctorArguments, kDoctorOptions, RunDoctor},
#endif
#ifdef JOBC_WITH_COMPILER
    {"completion", "print a script that lets a shell complete commands, options, files, runs and jobs",
     "bash:  eval \"$(jobc completion bash)\"\nzsh:   source <(jobc completion zsh)\nfish:  jobc completion fish | source",
     kCompletionArguments, {}, RunCompletion},
#endif
    {"explain", "the long text on a diagnostic, with an example of wrong and right", "", kExplainArguments, {}, RunExplain},
    {"version", "print the version of jobc", "", {}, {}, RunVersion},
    {"help", "show how a command is used", "", kHelpArguments, {}, RunHelp},
};

#ifdef JOBC_WITH_COMPILER
/// Asked by the scripts of `jobc completion`, not by people.
constexpr CommandSpec kComplete = {"__complete", "what may stand at the cursor", "", kCompleteArguments, {}, RunComplete};
#endif

}  // namespace

std::span<const CommandSpec> Commands() { return kCommands; }
std::span<const OptionSpec> GlobalOptions() { return kGlobalOptions; }

const CommandSpec* FindCommand(std::string_view name) {
  for (const CommandSpec& command : kCommands) {
    if (command.name == name) return &command;
  }
#ifdef JOBC_WITH_COMPILER
  if (name == kComplete.name) return &kComplete;
#endif
  return nullptr;
}

}  // namespace jobc
