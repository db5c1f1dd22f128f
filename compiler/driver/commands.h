// The command line as data: every command with its options and arguments. Parsing, `--help`, did-you-mean, completion
// and docs/command-line.md are all made from this table, so that they cannot disagree.
// To add a command: a row in commands.cpp, a Run function declared below, and one file NAME_command.cpp with it.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace jobc {

class Invocation;
class Terminal;

/// What the value of an option or argument is; decides how it is checked and completed.
enum class ValueKind : uint8_t {
  None,       ///< an option without a value
  Text,
  Int,        ///< a decimal number, at least 0
  Duration,   ///< `500ms 30s 5m 2h 1d`
  Choice,     ///< one of the words in the placeholder, separated by `|`
  Parameter,  ///< `k=v` or `@file.json`
  File,
  Directory,
  Run,        ///< a run's id, a unique prefix of it, or its name
  Job,        ///< `name`, `name["key"]` or `name.output`
  Code,       ///< a diagnostic's code
  Command,
};

struct OptionSpec {
  std::string_view name;         ///< with its dashes: `--profile`
  std::string_view short_name;   ///< `-p`, or empty
  ValueKind value = ValueKind::None;
  std::string_view placeholder;  ///< of the value: `NAME`, or `auto|always|never`
  std::string_view help;         ///< lower case, no final period
  bool repeated = false;         ///< may be given several times; else the last one counts
  bool value_optional = false;   ///< the value is only taken as `--name=value`; a Run also as the next word
};

struct ArgumentSpec {
  std::string_view name;         ///< `FILE`
  ValueKind value;
  std::string_view help;
  bool optional = false;
  bool repeated = false;         ///< only the last argument of a command
};

struct CommandSpec {
  std::string_view name;
  std::string_view summary;      ///< one line, lower case, no final period
  std::string_view details;      ///< a paragraph or more for `jobc NAME --help`; may be empty
  std::span<const ArgumentSpec> arguments;
  std::span<const OptionSpec> options;
  int (*run)(const Invocation&, Terminal&);
};

/// In the order in which `jobc --help` lists them.
std::span<const CommandSpec> Commands();
/// `--color`, `--json`, `--help`: understood by every command.
std::span<const OptionSpec> GlobalOptions();

/// nullptr if there is none of this name. Also finds `__complete`, which Commands() does not list.
const CommandSpec* FindCommand(std::string_view name);

int RunCheck(const Invocation& invocation, Terminal& terminal);
int RunFmt(const Invocation& invocation, Terminal& terminal);
int RunPlan(const Invocation& invocation, Terminal& terminal);
int RunGraph(const Invocation& invocation, Terminal& terminal);
int RunInputs(const Invocation& invocation, Terminal& terminal);
int RunRun(const Invocation& invocation, Terminal& terminal);
int RunStatusCommand(const Invocation& invocation, Terminal& terminal);
int RunResume(const Invocation& invocation, Terminal& terminal);
int RunRetry(const Invocation& invocation, Terminal& terminal);
int RunCancel(const Invocation& invocation, Terminal& terminal);
int RunGc(const Invocation& invocation, Terminal& terminal);
int RunWatch(const Invocation& invocation, Terminal& terminal);
int RunReport(const Invocation& invocation, Terminal& terminal);
int RunList(const Invocation& invocation, Terminal& terminal);
int RunLogs(const Invocation& invocation, Terminal& terminal);
int RunResult(const Invocation& invocation, Terminal& terminal);
int RunDiff(const Invocation& invocation, Terminal& terminal);
int RunDoctor(const Invocation& invocation, Terminal& terminal);
int RunLock(const Invocation& invocation, Terminal& terminal);
int RunTest(const Invocation& invocation, Terminal& terminal);
int RunDoc(const Invocation& invocation, Terminal& terminal);
int RunLint(const Invocation& invocation, Terminal& terminal);
int RunFix(const Invocation& invocation, Terminal& terminal);
int RunInit(const Invocation& invocation, Terminal& terminal);
int RunSchema(const Invocation& invocation, Terminal& terminal);
int RunCompletion(const Invocation& invocation, Terminal& terminal);
int RunComplete(const Invocation& invocation, Terminal& terminal);
int RunExplain(const Invocation& invocation, Terminal& terminal);
int RunVersion(const Invocation& invocation, Terminal& terminal);
int RunHelp(const Invocation& invocation, Terminal& terminal);

}  // namespace jobc
