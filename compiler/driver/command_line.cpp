#include "compiler/driver/command_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "compiler/diagnostics/diagnostics.h"
#include "support/check.h"
#include "support/text_width.h"

namespace jobc {
namespace {

std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

std::optional<int64_t> ParseInt(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

/// What is wrong with `value` for `kind`, or empty.
std::string Fault(ValueKind kind, std::string_view placeholder, std::string_view value) {
  switch (kind) {
    case ValueKind::Int:
      if (ParseInt(value).value_or(0) < 1) return "a whole number above 0 is wanted, such as 4";
      break;
    case ValueKind::Duration:
      if (!ParseDurationMs(value)) return "a duration is wanted, such as 500ms, 30s, 5m, 2h or 1d";
      break;
    case ValueKind::Choice: {
      const std::vector<std::string_view> words = Split(placeholder, '|');
      if (std::find(words.begin(), words.end(), value) == words.end()) {
        return fmt::format("one of these is wanted: {}", fmt::join(words, ", "));
      }
      break;
    }
    case ValueKind::Parameter:
      if (value.find('=') == std::string_view::npos && !value.starts_with('@')) {
        return "NAME=VALUE or @FILE.json is wanted";
      }
      if (value.starts_with('=') || value == "@") return "a name is missing before `=`, or a file after `@`";
      break;
    case ValueKind::File:
    case ValueKind::Directory:
    case ValueKind::Run:
    case ValueKind::Job:
      if (value.empty()) return "it may not be empty";
      break;
    case ValueKind::None:
    case ValueKind::Text:
    case ValueKind::Code:
    case ValueKind::Command: break;
  }
  return {};
}

std::string OptionTitle(const OptionSpec& option) {
  std::string title = option.short_name.empty() ? "    " : std::string(option.short_name) + ", ";
  title += option.name;
  if (option.value != ValueKind::None) {
    title += option.value_optional && option.value == ValueKind::Run ? fmt::format(" [{}]", option.placeholder)
             : option.value_optional                                ? fmt::format("[={}]", option.placeholder)
                                                                    : fmt::format(" {}", option.placeholder);
  }
  return title;
}

/// Two columns, the right one at the same place in all rows.
std::string Columns(const std::vector<std::pair<std::string, std::string_view>>& rows) {
  constexpr size_t kWidestLeft = 30;
  size_t left = 0;
  for (const auto& [title, help] : rows) {
    if (title.size() <= kWidestLeft) left = std::max(left, title.size());
  }
  std::string out;
  for (const auto& [title, help] : rows) {
    if (title.size() > left) {
      out += fmt::format("  {}\n  {:{}}  {}\n", title, "", left, help);
    } else {
      out += fmt::format("  {:{}}  {}\n", title, left, help);
    }
  }
  return out;
}

std::string ArgumentsText(const CommandSpec& command) {
  std::string text;
  for (const ArgumentSpec& argument : command.arguments) {
    std::string shown(argument.name);
    if (argument.repeated) shown += "...";
    text += argument.optional ? " [" + shown + "]" : " " + shown;
  }
  return text;
}

}  // namespace

// ---------------------------------------------------------------------------------------------------------------------

void Invocation::CheckKnown(std::string_view option) const {
  const auto named = [&](const OptionSpec& spec) { return spec.name == option; };
  JOBC_CHECK(std::any_of(command_->options.begin(), command_->options.end(), named) ||
             std::any_of(GlobalOptions().begin(), GlobalOptions().end(), named));
}

bool Invocation::Has(std::string_view option) const {
  CheckKnown(option);
  return std::any_of(options_.begin(), options_.end(), [&](const auto& each) { return each.first->name == option; });
}

std::optional<std::string_view> Invocation::Value(std::string_view option) const {
  const std::vector<std::string_view> values = Values(option);
  if (values.empty()) return std::nullopt;
  return values.back();
}

std::vector<std::string_view> Invocation::Values(std::string_view option) const {
  CheckKnown(option);
  std::vector<std::string_view> values;
  for (const auto& [spec, value] : options_) {
    if (spec->name == option) values.push_back(value);
  }
  return values;
}

std::optional<int64_t> Invocation::Int(std::string_view option) const {
  const std::optional<std::string_view> value = Value(option);
  return value ? ParseInt(*value) : std::nullopt;
}

std::optional<int64_t> Invocation::Milliseconds(std::string_view option) const {
  const std::optional<std::string_view> value = Value(option);
  return value ? ParseDurationMs(*value) : std::nullopt;
}

std::optional<int64_t> ParseDurationMs(std::string_view text) {
  const size_t unit_at = text.find_first_not_of("0123456789.");
  if (unit_at == 0 || unit_at == std::string_view::npos) return std::nullopt;
  const std::string_view unit = text.substr(unit_at);
  int64_t scale = 0;
  if (unit == "ms") scale = 1;
  else if (unit == "s") scale = 1000;
  else if (unit == "m") scale = 60 * 1000;
  else if (unit == "h") scale = 3600 * 1000;
  else if (unit == "d") scale = 24 * 3600 * 1000;
  else return std::nullopt;
  // Exact decimal arithmetic: 1.5h is 5400000, 1.0001s is nothing.
  const std::string_view number = text.substr(0, unit_at);
  const size_t point = number.find('.');
  const std::string_view whole = number.substr(0, point);
  const std::string_view fraction = point == std::string_view::npos ? std::string_view() : number.substr(point + 1);
  if (whole.empty() || (point != std::string_view::npos && fraction.empty()) || fraction.size() > 9) return std::nullopt;
  const std::optional<int64_t> integer = ParseInt(whole);
  int64_t result = 0;
  if (!integer || __builtin_mul_overflow(*integer, scale, &result)) return std::nullopt;
  if (fraction.empty()) return result;
  const std::optional<int64_t> digits = ParseInt(fraction);
  int64_t power = 1;
  for (size_t i = 0; i < fraction.size(); ++i) power *= 10;
  int64_t scaled = 0;
  if (!digits || __builtin_mul_overflow(*digits, scale, &scaled) || scaled % power != 0) return std::nullopt;
  if (__builtin_add_overflow(result, scaled / power, &result)) return std::nullopt;
  return result;
}

// ---------------------------------------------------------------------------------------------------------------------

class CommandLineParser {
 public:
  explicit CommandLineParser(const std::vector<std::string>& words) : words_(words) {}

  ParsedCommandLine Parse() {
    // Global options may stand before the command; the command is the first other word.
    size_t command_at = words_.size();
    for (size_t i = 0; i < words_.size() && command_at == words_.size(); ++i) {
      const std::string& word = words_[i];
      if (word == "--version") {
        Invocation version(*FindCommand("version"));
        if (std::optional<UsageError> error = ParseWords(version, i)) return Fail(std::move(*error));
        return {std::move(version), {}};
      }
      if (!word.starts_with('-')) {
        command_at = i;
      } else if (word == "--color") {
        ++i;
      }
    }
    if (command_at == words_.size()) {
      for (const std::string& word : words_) {
        if (word == "--help" || word == "-h") return {Invocation(*FindCommand("help")), {}};
      }
      for (const std::string& word : words_) {
        if (FindOption({}, word.substr(0, word.find('='))) == nullptr) return Fail(UnknownOption({}, word, "jobc --help"));
      }
      return Fail({"no command was given", {"`jobc --help` lists the commands"}});
    }
    const CommandSpec* const command = FindCommand(words_[command_at]);
    if (command == nullptr) return Fail(UnknownCommand(words_[command_at]));
    Invocation invocation(*command);
    if (std::optional<UsageError> error = ParseWords(invocation, command_at)) return Fail(std::move(*error));
    if (invocation.Has("--help")) {
      Invocation help(*FindCommand("help"));
      help.arguments_.push_back(std::string(command->name));
      return {std::move(help), {}};
    }
    if (std::optional<UsageError> error = CheckArguments(invocation)) return Fail(std::move(*error));
    return {std::move(invocation), {}};
  }

 private:
  static ParsedCommandLine Fail(UsageError error) { return {{}, std::move(error)}; }

  static const OptionSpec* FindOption(std::span<const OptionSpec> options, std::string_view name) {
    for (const std::span<const OptionSpec> list : {options, GlobalOptions()}) {
      for (const OptionSpec& option : list) {
        if (option.name == name || (!option.short_name.empty() && option.short_name == name)) return &option;
      }
    }
    return nullptr;
  }

  static UsageError UnknownCommand(const std::string& word) {
    UsageError error{fmt::format("there is no command `{}`", word), {}};
    if (word.ends_with(".job") || word.ends_with("/plan.json") || word == "plan.json") {
      error.helps.push_back(fmt::format("to run this file:  jobc run {}", word));
      return error;
    }
    std::vector<std::string_view> names;
    for (const CommandSpec& command : Commands()) names.push_back(command.name);
    const std::string_view similar = DidYouMean(word, names);
    if (!similar.empty()) error.helps.push_back(fmt::format("did you mean `jobc {}`?", similar));
    error.helps.push_back("`jobc --help` lists the commands");
    return error;
  }

  static UsageError UnknownOption(std::span<const OptionSpec> options, std::string_view word, std::string help_command) {
    const std::string_view name = word.substr(0, word.find('='));
    UsageError error{fmt::format("unknown option `{}`", name), {}};
    std::vector<std::string_view> names;
    for (const std::span<const OptionSpec> list : {options, GlobalOptions()}) {
      for (const OptionSpec& option : list) names.push_back(option.name);
    }
    const std::string_view similar = DidYouMean(name, names);
    if (!similar.empty()) error.helps.push_back(fmt::format("did you mean `{}`?", similar));
    error.helps.push_back(fmt::format("`{}` lists the options", help_command));
    return error;
  }

  std::optional<UsageError> ParseWords(Invocation& invocation, size_t command_at) {
    const CommandSpec& command = invocation.command();
    const std::string help_command = fmt::format("jobc {} --help", command.name);
    bool only_arguments = false;
    for (size_t i = 0; i < words_.size(); ++i) {
      if (i == command_at) continue;
      const std::string_view word = words_[i];
      if (only_arguments || word == "-" || !word.starts_with('-')) {
        invocation.arguments_.emplace_back(word);
        continue;
      }
      if (word == "--") {
        only_arguments = true;
        continue;
      }
      // `--name`, `--name=value`, `-p`, `-pvalue`
      const bool is_long = word.starts_with("--");
      const size_t equals = is_long ? word.find('=') : std::string_view::npos;
      const std::string_view name = is_long ? word.substr(0, equals) : word.substr(0, 2);
      const OptionSpec* const option = FindOption(command.options, name);
      if (option == nullptr) return UnknownOption(command.options, is_long ? name : word, help_command);
      std::optional<std::string_view> value;
      if (equals != std::string_view::npos) value = word.substr(equals + 1);
      if (!is_long && word.size() > 2) value = word.substr(2);
      if (option->value == ValueKind::None) {
        if (value) return UsageError{fmt::format("`{}` takes no value", option->name), {}};
      } else if (!value && option->value_optional) {
        // A run may follow as a word of its own; a file, which is what else stands there, has a dot or a slash in its name.
        if (option->value == ValueKind::Run && i + 1 < words_.size() && i + 1 != command_at && !words_[i + 1].starts_with('-') && !words_[i + 1].empty() &&
            words_[i + 1].find_first_of("./") == std::string::npos) {
          value = words_[++i];
        }
      } else if (!value) {
        if (i + 1 == words_.size() || i + 1 == command_at) {
          return UsageError{fmt::format("`{}` needs a value", name),
                            {fmt::format("for example:  {} {}", name, Split(option->placeholder, '|').front())}};
        }
        value = words_[++i];
      }
      if (value) {
        const std::string fault = Fault(option->value, option->placeholder, *value);
        if (!fault.empty()) return UsageError{fmt::format("`{}` is no value for `{}`: {}", *value, option->name, fault), {}};
      }
      invocation.options_.emplace_back(option, std::string(value.value_or("")));
    }
    return std::nullopt;
  }

  static std::optional<UsageError> CheckArguments(const Invocation& invocation) {
    const CommandSpec& command = invocation.command();
    const std::vector<std::string>& given = invocation.arguments();
    const std::string usage = fmt::format("usage:  jobc {}{}", command.name, ArgumentsText(command));
    const bool unlimited = !command.arguments.empty() && command.arguments.back().repeated;
    if (!unlimited && given.size() > command.arguments.size()) {
      return UsageError{fmt::format("`{}` is one argument too many", given[command.arguments.size()]), {usage}};
    }
    for (size_t i = 0; i < command.arguments.size(); ++i) {
      if (i >= given.size() && !command.arguments[i].optional) {
        return UsageError{fmt::format("{} is missing: {}", command.arguments[i].name, command.arguments[i].help), {usage}};
      }
    }
    for (size_t i = 0; i < given.size(); ++i) {
      const ArgumentSpec& argument = command.arguments[std::min(i, command.arguments.size() - 1)];
      const std::string fault = Fault(argument.value, argument.name, given[i]);
      if (!fault.empty()) return UsageError{fmt::format("`{}` is no value for {}: {}", given[i], argument.name, fault), {usage}};
    }
    return std::nullopt;
  }

  const std::vector<std::string>& words_;
};

ParsedCommandLine ParseCommandLine(const std::vector<std::string>& words) { return CommandLineParser(words).Parse(); }

std::string RenderUsageError(const UsageError& error, bool color) {
  std::string out = color ? "\x1b[1;31merror\x1b[0m\x1b[1m: " : "error: ";
  out += VisibleText(error.message);
  out += color ? "\x1b[0m\n" : "\n";
  auto line = [&](std::string_view what, std::string_view style, const std::string& text) {
    out += fmt::format("  {}={} {}{}{}: {}\n", color ? "\x1b[1;34m" : "", color ? "\x1b[0m" : "", color ? style : "", what, color ? "\x1b[0m" : "", VisibleText(text));
  };
  for (const std::string& note : error.notes) line("note", "\x1b[1m", note);
  for (const std::string& help : error.helps) line("help", "\x1b[1;36m", help);
  return out;
}

std::string HelpText(std::string_view version) {
  std::vector<std::pair<std::string, std::string_view>> commands, options;
  for (const CommandSpec& command : Commands()) {
    commands.emplace_back(std::string(command.name) + ArgumentsText(command), command.summary);
  }
  for (const OptionSpec& option : GlobalOptions()) options.emplace_back(OptionTitle(option), option.help);
  options.emplace_back("    --version", "print the version of jobc");
  return fmt::format(
      "jobc {}: typed .job files, checked as a whole before anything runs\n\n"
      "usage: jobc COMMAND [ARGUMENTS]\n\ncommands:\n{}\noptions of every command:\n{}\n"
      "`jobc COMMAND --help` explains one. stdout is data, stderr is for people.\n",
      version, Columns(commands), Columns(options));
}

std::string HelpText(const CommandSpec& command) {
  std::string out = fmt::format("usage: jobc {}{}{}\n\n{}\n", command.name, command.options.empty() ? "" : " [OPTIONS]",
                                ArgumentsText(command), command.summary);
  if (!command.details.empty()) out += fmt::format("\n{}\n", command.details);
  std::vector<std::pair<std::string, std::string_view>> rows;
  for (const ArgumentSpec& argument : command.arguments) rows.emplace_back(std::string(argument.name), argument.help);
  if (!rows.empty()) out += "\narguments:\n" + Columns(rows);
  rows.clear();
  for (const OptionSpec& option : command.options) rows.emplace_back(OptionTitle(option), option.help);
  for (const OptionSpec& option : GlobalOptions()) rows.emplace_back(OptionTitle(option), option.help);
  return out + "\noptions:\n" + Columns(rows);
}

}  // namespace jobc
