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
    {"--output", "-o", ValueKind::File, "FILE", "write the plan there instead of printing it; -: print it as JSON"},
    {"--expand", "", ValueKind::None, "", "list every instance with what it waits for and what it runs"},
    {"--bounds", "", ValueKind::None, "", "the worst case: attempts, time and slots; with --expand, of every instance"},
    {"--stop-after", "", ValueKind::Choice, "parse|ast|check|plan", "print what that stage makes of the file"},
    {"--dump", "", ValueKind::None, "", "print the plan (or the stage) indented, for people"},
    {"--since", "", ValueKind::Run, "RUN", "what `run --resume RUN` would run again, and why"},
    {"--against", "", ValueKind::File, "PLAN", "compare with a plan that is kept, such as one in git"},
    {"--exit-code", "", ValueKind::None, "", "exit with 5 if there is something to run since RUN (default: the last one), or if the plan kept in PLAN differs"},
    {"--state", "", ValueKind::Directory, "DIR", "for --since: where runs keep their state (default: $JOBC_HOME, else `.jobc` beside the source)"},
    JOBC_FORMAT_OPTION,
};
constexpr ArgumentSpec kDiffArguments[] = {
    {"A", ValueKind::File, "a run, a plan, or a .job file"},
    {"B", ValueKind::File, "the other one; what is in it is called `now`"},
};
constexpr OptionSpec kDiffOptions[] = {
    JOBC_PLAN_OPTIONS,
    {"--exit-code", "", ValueKind::None, "", "exit with 5 if they differ"},
    {"--state", "", ValueKind::Directory, "DIR", "where runs keep their state (default: $JOBC_HOME, else the nearest `.jobc`)"},
    JOBC_FORMAT_OPTION,
};
constexpr OptionSpec kGraphOptions[] = {
    JOBC_PLAN_OPTIONS,
    {"--as", "", ValueKind::Choice, "dot|mermaid|json", "the form of the graph (default: dot)"},
    {"--critical", "", ValueKind::None, "", "mark the longest path, by the worst cases of its jobs"},
    JOBC_FORMAT_OPTION,
};
constexpr OptionSpec kInputsOptions[] = {
    JOBC_FORMAT_OPTION,
};
constexpr ArgumentSpec kFmtArguments[] = {
    {"FILE", ValueKind::File, "the .job files, or directories to look for them; `-`: stdin to stdout; without any, all in the working directory", true, true},
};
constexpr OptionSpec kFmtOptions[] = {
    {"--check", "", ValueKind::None, "", "change nothing; list the files that would change, and exit with 4 if there are any"},
    {"--diff", "", ValueKind::None, "", "change nothing; print what would change"},
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
    {"--resume", "", ValueKind::Run, "RUN", "use the results of that run again where nothing they depend on has changed (default: the last one)", false, true},
    {"--strict", "", ValueKind::None, "", "exit with 11 if the run succeeded but ignored failures"},
    {"--dry-run", "", ValueKind::None, "", "list what would run, and run nothing"},
    {"--detach", "", ValueKind::None, "", "go on without the terminal: print the run's id and exit once it is under way"},
    {"--publish-to", "", ValueKind::Directory, "DIR", "publish there instead of where the file says, also to s3://BUCKET/PREFIX"},
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
    {"--detach", "", ValueKind::None, "", "go on without the terminal: print the run's id and exit once it is under way"},
    {"--accept-loss", "", ValueKind::None, "", "also when the journal lacks records that were safe before; what they said is decided again"},
    JOBC_STATE_OPTION,
};
constexpr ArgumentSpec kCancelArguments[] = {
    {"RUN", ValueKind::Run, "the run (default: the last one)", true},
    {"JOB", ValueKind::Job, "only these jobs or instances (default: the whole run)", true, true},
};
constexpr OptionSpec kCancelOptions[] = {
    {"--now", "", ValueKind::None, "", "the whole run at once: no grace period, no `finally`; as a second Ctrl-C"},
    {"--wait", "", ValueKind::None, "", "return when what was cancelled has ended"},
    JOBC_STATE_OPTION,
};
constexpr OptionSpec kGcOptions[] = {
    {"--dry-run", "-n", ValueKind::None, "", "say what would be removed, and touch nothing"},
    {"--older-than", "", ValueKind::Duration, "DURATION", "what ended that long ago, runs without `keep` as well (default: leftovers after 1d, runs by their `keep`)"},
    {"--cache", "", ValueKind::None, "", "also results of `cache = true` that were not used for that long (default: 30d)"},
    JOBC_STATE_OPTION,
};
constexpr OptionSpec kWatchOptions[] = {
    JOBC_STATE_OPTION,
};
constexpr OptionSpec kStatusOptions[] = {
    {"--instances", "", ValueKind::None, "", "show every instance, not only failed and running ones"},
    {"--format", "", ValueKind::Choice, "text|json|prometheus|scale", "for people, for programs, for monitoring, or as NGA Scale does (default: text; json with --json)"},
    {"--period", "", ValueKind::Duration, "TIME", "how far back numbers over time go (default: 3h)"},
    {"--block", "", ValueKind::Duration, "TIME", "the blocks they are counted in (default: 5m)"},
    JOBC_STATE_OPTION,
};
constexpr OptionSpec kReportOptions[] = {
    {"--output", "-o", ValueKind::File, "FILE", "write the page there instead of printing it; -: print it"},
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
constexpr ArgumentSpec kSchemaArguments[] = {
    {"params|result|job|plan|events|status", ValueKind::Choice, "a parameter file, what `jobc result` prints, a job's $JOB_RESULT, plans, `run --json`, `status --json`"},
    {"FILE", ValueKind::File, "the .job file", true},
    {"JOB", ValueKind::Text, "for `result` and `job`: a job of the file", true},
};
constexpr ArgumentSpec kFilesArguments[] = {
    {"FILE", ValueKind::File, "the .job files; without any, all in the working directory", true, true},
};
constexpr OptionSpec kLintOptions[] = {
    {"--baseline", "", ValueKind::File, "JSON", "findings that are known and not told again"},
    {"--write-baseline", "", ValueKind::None, "", "write the findings of now there instead of telling them"},
    JOBC_FORMAT_OPTION,
};
constexpr OptionSpec kLockOptions[] = {
    {"--check", "", ValueKind::None, "", "fetch and write nothing; exit with 4 if the lock is not up to date"},
    {"--update", "", ValueKind::Text, "NAME", "take what is there now: the name or address of an import, the name of an image, or `all`", true},
    JOBC_FORMAT_OPTION,
};
constexpr ArgumentSpec kTestArguments[] = {
    {"FILE", ValueKind::File, "the .job files, or directories to look for them; without any, all in the working directory", true, true},
};
constexpr OptionSpec kTestOptions[] = {
    {"--filter", "", ValueKind::Text, "REGEX", "only tests whose name matches"},
    {"--junit", "", ValueKind::File, "FILE", "write the results there as JUnit XML"},
    JOBC_FORMAT_OPTION,
};
constexpr OptionSpec kFixOptions[] = {
    {"--dry-run", "", ValueKind::None, "", "say what would be applied, and change nothing"},
};
constexpr ArgumentSpec kInitArguments[] = {
    {"NAME", ValueKind::Text, "of the file, with or without `.job` (default: main)", true},
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
    {"CODE|run|skip|value", ValueKind::Code, "the code of a diagnostic, such as E202, or what to explain of a run; without one, all codes are listed", true},
    {"WHAT", ValueKind::Job, "an instance (`run`, `skip`), or a name: `params.day`, `align.timeout.run`, `align[\"s1\"].bam` (`value`)", true},
    {"RUN", ValueKind::Run, "the run (default: the last one)", true},
};
constexpr OptionSpec kExplainOptions[] = {
    {"--since", "", ValueKind::Run, "RUN", "`run`: compare with that run (default: that of its `--resume`, else the one before)"},
    {"--state", "", ValueKind::Directory, "DIR", "where runs keep their state (default: $JOBC_HOME, else the nearest `.jobc`)"},
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
     "On a terminal, an overview; otherwise, and with --json, the plan as canonical JSON (jobc.plan/1). With --since, what a\n"
     "run would do instead; with --against, how the plan differs from one that is kept.",
     kPlanArguments, kPlanOptions, RunPlan},
    {"run", "plan and execute a file on this machine",
     "Shows progress on stderr and prints the run's exports as JSON on stdout. With --json, one event a line on stdout.\n"
     "The first Ctrl-C cancels all jobs, runs `finally` and exits with 130; a second one ends everything at once.",
     kRunArguments, kRunOptions, RunRun},
    {"resume", "go on with a run that was killed, interrupted or failed",
     "Goes on from the journal with the stored plan: what succeeded, failed or was skipped stays, everything else is decided\n"
     "again. Exits as the run does; with 15 if another process executes it.", kRunArgument, kResumeOptions, RunResume},
    {"retry", "give failed jobs of a run fresh attempts and go on", "", kRetryArguments, kResumeOptions, RunRetry},
    {"cancel", "end a run, a job or an instance, also when its jobc is dead",
     "The whole run: as Ctrl-C there; all jobs are cancelled, `finally` runs, the run exits with 130. A job or an instance: it\n"
     "is `cancelled` and counts as failed, for the others by its `on_error`. If the run's jobc is dead, its containers are ended\n"
     "and removed, and what was not final is `cancelled`. Exits with 0 also if there was nothing left to cancel, with 2 if there\n"
     "is no such run or job, with 14 if the engine of its containers does not answer, with 15 if its process cannot be reached.",
     kCancelArguments, kCancelOptions, RunCancel},
    {"gc", "remove what runs left behind: containers, directories of attempts, expired runs",
     "Of a state directory: containers of runs that have ended or died, directories of the attempts of ended runs, and runs that\n"
     "are older than their `limits { keep }`. Nothing of a run that a process executes is touched, and nothing that `resume`\n"
     "needs: a run that died keeps its journal and results. Prints what it removed and its size on the disk.",
     {}, kGcOptions, RunGc},
    {"watch", "see a run from another terminal while it goes on",
     "Shows what `jobc run` shows, from the start of the run; with --json, its events. Ctrl-C ends the watching, not the run.\n"
     "Exits as the run does; with 15 if its process was killed.", kRunArgument, kWatchOptions, RunWatch},
    {"attach", "the same as watch", "", kRunArgument, kWatchOptions, RunWatch},
    {"status", "what a run did or does: states, attempts, failures",
     "Works while the run goes on in another process, and after a crash of it. The JSON, Prometheus and Scale forms also\n"
     "hold numbers of attempts by class, job, place and time, waits and durations; docs/status.md describes them.", kRunArgument, kStatusOptions, RunStatusCommand},
    {"report", "a run as one page of HTML: summary, failures, graph, timeline, durations",
     "The page needs no network and no other file. Also of a run that goes on or was killed. With --json, its data.", kRunArgument, kReportOptions, RunReport},
    {"list", "the runs of this directory, newest first", "", {}, kListOptions, RunList},
    {"logs", "what the jobs of a run wrote to stdout and stderr", "", kRunAndJobArguments, kLogsOptions, RunLogs},
    {"result", "the typed outputs of a run, a job or an instance, as JSON",
     "Without a job: the run's exports. Exits with 10 if the run failed.", kResultArguments, kResultOptions, RunResult},
    {"diff", "two plans or runs compared, grouped by cause",
     "A word with a dot or a slash in it is a file, everything else a run. Two runs are compared by their plans and instance by\n"
     "instance: what each depended on, how it ended, what it gave. Positions in the source and the order of jobs do not count.",
     kDiffArguments, kDiffOptions, RunDiff},
    {"graph", "the declared jobs and what they wait for, as dot, mermaid or JSON", "", kPlanArguments, kGraphOptions, RunGraph},
    {"inputs", "the parameters of a file: types, defaults, documentation", "", kFileArgument, kInputsOptions, RunInputs},
    {"lint", "the warnings of `check`, findings about style, and those of shellcheck; a baseline holds what is known",
     "Exits with 4 if it finds something that is not in the baseline, with 3 if there is an error. A comment\n"
     "`# jobc: allow(W704)` at the end of a line, or on the line before it, silences a warning there.", kFilesArguments, kLintOptions, RunLint},
    {"lock", "pin what comes from the network in `job.lock`: imports by their hash, images by their digest",
     "The only command that fetches sources or asks what a tag means. The lock lies beside the files it is for and belongs under\n"
     "version control; texts of imports lie in the cache, by hash. What is locked is not asked for again without `--update`.\n"
     "Without FILE, what is used no more is removed from the lock. Exits with 3 if something cannot be found or is no longer\n"
     "what is locked.", kFilesArguments, kLockOptions, RunLock},
    {"test", "run the `test` blocks of files: no process is started",
     "Of `x.job`, also those of `x_test.job` beside it. Parameters, what jobs do, and time are as a test says; everything else\n"
     "is what a run does. Exits with 10 if a test failed, with 3 if a file has errors.", kTestArguments, kTestOptions, RunTest},
    {"fix", "apply the helps that are certain to the files",
     "Applies what `check` and `plan` show as help where there is only one and it is no guess; what makes a file worse is left\n"
     "out. Exits with 3 if errors are left.", kFilesArguments, kFixOptions, RunFix},
    {"init", "write a small file that works, and say what to type next; never overwrites", "", kInitArguments, {}, RunInit},
    {"schema", "JSON Schema (2020-12) of a file's parameters and results, of plans, events and status",
     "Refinements become minimum, pattern, minLength …; what JSON Schema cannot say is in `$comment`.", kSchemaArguments, kInputsOptions, RunSchema},
    {"doc", "the documentation of a file as Markdown, from its doc comments",
     "FILE may also name a module of the standard library: `jobc doc std/python`.", kFileArgument, kInputsOptions, RunDoc},
    {"fmt", "write files in the one style of the language",
     "There are no settings; the style is described in docs/format.md. What a file means and its comments never change. A\n"
     "file with syntax errors is left alone (exit code 3), all others are replaced whole or not at all.",
     kFmtArguments, kFmtOptions, RunFmt},
    {"doctor", "what works on this machine, what does not, and what would change that",
     "Each backend has a line: whether it can be used from here, its version, the limits it enforces, or what is missing and how to\n"
     "get it. `jobc doctor docker` asks that engine alone and tells more. Nothing is installed or started.\n\n"
     "Also ends and removes what a run left behind whose jobc and guardian were both killed.", kDoctorArguments, kDoctorOptions, RunDoctor},
#endif
#ifdef JOBC_WITH_COMPILER
    {"completion", "print a script that lets a shell complete commands, options, files, runs and jobs",
     "bash:  eval \"$(jobc completion bash)\"\nzsh:   source <(jobc completion zsh)\nfish:  jobc completion fish | source",
     kCompletionArguments, {}, RunCompletion},
#endif
    {"explain", "the long text on a diagnostic; why an instance ran or did not; where a value comes from",
     "`explain E202`: the text on a code, with an example of wrong and right. `explain run 'align[\"s1\"]'`: what differs from an\n"
     "earlier run, so that it ran again: the first part of its cache key, both values, and the line of the source. `explain skip\n"
     "JOB`: the guard with its values, or what upstream is to blame. `explain value NAME`: the value in a run, and who set it.",
     kExplainArguments, kExplainOptions, RunExplain},
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
