// From argv to an Invocation, by the table of commands.h. Pure: looks at nothing but the words it is given.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "compiler/driver/commands.h"

namespace jobc {

/// One use of a command, checked against its table row: all options are known, all values have the right form.
class Invocation {
 public:
  explicit Invocation(const CommandSpec& command) : command_(&command) {}

  const CommandSpec& command() const { return *command_; }
  /// What is no option, in order.
  const std::vector<std::string>& arguments() const { return arguments_; }
  /// Options are asked for by their long name. Asking for one that is not in the table is a bug (JOBC_CHECK).
  bool Has(std::string_view option) const;
  /// The last value given; nullopt if the option was not given, empty if it was given without its optional value.
  std::optional<std::string_view> Value(std::string_view option) const;
  std::string_view ValueOr(std::string_view option, std::string_view fallback) const { return Value(option).value_or(fallback); }
  /// All values, in order.
  std::vector<std::string_view> Values(std::string_view option) const;
  /// The value of a ValueKind::Int option.
  std::optional<int64_t> Int(std::string_view option) const;
  /// In milliseconds, the value of a ValueKind::Duration option.
  std::optional<int64_t> Milliseconds(std::string_view option) const;
  bool json() const { return Has("--json"); }

 private:
  friend class CommandLineParser;

  void CheckKnown(std::string_view option) const;

  const CommandSpec* command_;
  std::vector<std::string> arguments_;
  std::vector<std::pair<const OptionSpec*, std::string>> options_;
};

/// What a person did wrong on the command line. Exit code 2.
struct UsageError {
  std::string message;                ///< lower case, no final period
  std::vector<std::string> helps;
  std::vector<std::string> notes{};   ///< what it speaks of, before the helps
};

/// The words as typed for people: `error: …`, and a `= note: …` and `= help: …` line each.
std::string RenderUsageError(const UsageError& error, bool color);

/// `words` are argv without the program. Either an Invocation or a UsageError. `--help` anywhere gives the help command,
/// `--version` in first place the version command.
struct ParsedCommandLine {
  std::optional<Invocation> invocation;
  std::optional<UsageError> error;
};
ParsedCommandLine ParseCommandLine(const std::vector<std::string>& words);

/// `jobc --help`, and `jobc NAME --help`.
std::string HelpText(std::string_view version);
std::string HelpText(const CommandSpec& command);

/// `30s`, `1.5h` … in milliseconds; nullopt if it is no whole number of them or no duration.
std::optional<int64_t> ParseDurationMs(std::string_view text);

}  // namespace jobc
