#include "compiler/driver/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "compiler/diagnostics/diagnostics.h"
#include "compiler/driver/explain.h"

namespace jobc {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

int Nothing(const Invocation&, Terminal&) { return 0; }

UsageError ErrorOf(const std::vector<std::string>& words) {
  ParsedCommandLine parsed = ParseCommandLine(words);
  EXPECT_FALSE(parsed.invocation.has_value());
  return parsed.error.value_or(UsageError{});
}

Invocation InvocationOf(const std::vector<std::string>& words) {
  ParsedCommandLine parsed = ParseCommandLine(words);
  EXPECT_FALSE(parsed.error.has_value()) << parsed.error->message;
  return parsed.invocation.value_or(Invocation(*FindCommand("help")));
}

TEST(CommandLine, OptionsStandBeforeOrAfterTheCommandAndItsArguments) {
  const Invocation invocation = InvocationOf({"--color=never", "explain", "--json", "E202"});
  EXPECT_EQ(invocation.command().name, "explain");
  EXPECT_THAT(invocation.arguments(), ElementsAre("E202"));
  EXPECT_TRUE(invocation.json());
  EXPECT_EQ(invocation.Value("--color"), "never");
  EXPECT_EQ(InvocationOf({"--color", "always", "explain"}).Value("--color"), "always");
}

TEST(CommandLine, TheLastOfSeveralValuesCounts) {
  EXPECT_EQ(InvocationOf({"explain", "--color", "always", "--color=never"}).Value("--color"), "never");
}

TEST(CommandLine, AfterTwoDashesEverythingIsAnArgument) {
  EXPECT_THAT(InvocationOf({"explain", "--", "--json"}).arguments(), ElementsAre("--json"));
}

TEST(CommandLine, MistypedCommandsAndOptionsAreAnsweredWithASuggestion) {
  const UsageError command = ErrorOf({"explian"});
  EXPECT_EQ(command.message, "there is no command `explian`");
  EXPECT_THAT(command.helps, ElementsAre("did you mean `jobc explain`?", "`jobc --help` lists the commands"));
  const UsageError option = ErrorOf({"explain", "--colour=never"});
  EXPECT_EQ(option.message, "unknown option `--colour`");
  EXPECT_THAT(option.helps, ElementsAre("did you mean `--color`?", "`jobc explain --help` lists the options"));
}

TEST(CommandLine, AFileInPlaceOfACommandIsAnsweredWithTheCommandToType) {
  EXPECT_THAT(ErrorOf({"hello.job"}).helps, ElementsAre("to run this file:  jobc run hello.job"));
}

TEST(CommandLine, WrongUseNamesWhatIsWanted) {
  EXPECT_EQ(ErrorOf({}).message, "no command was given");
  EXPECT_EQ(ErrorOf({"list", "b"}).message, "`b` is one argument too many");
  EXPECT_EQ(ErrorOf({"explain", "--color"}).message, "`--color` needs a value");
  EXPECT_EQ(ErrorOf({"explain", "--json=yes"}).message, "`--json` takes no value");
  EXPECT_EQ(ErrorOf({"explain", "--color", "blue"}).message,
            "`blue` is no value for `--color`: one of these is wanted: auto, always, never");
  EXPECT_EQ(ErrorOf({"--jsn"}).message, "unknown option `--jsn`");
}

TEST(CommandLine, HelpAndVersionWorkAnywhere) {
  EXPECT_EQ(InvocationOf({"--help"}).command().name, "help");
  const Invocation help = InvocationOf({"explain", "E1", "E2", "--help"});
  EXPECT_EQ(help.command().name, "help");
  EXPECT_THAT(help.arguments(), ElementsAre("explain"));
  EXPECT_EQ(InvocationOf({"--version"}).command().name, "version");
  EXPECT_TRUE(InvocationOf({"--version", "--json"}).json());
}

TEST(CommandLine, EveryRowOfTheTableIsWellFormed) {
  std::set<std::string_view> names;
  for (const CommandSpec& command : Commands()) {
    SCOPED_TRACE(std::string(command.name));
    EXPECT_TRUE(names.insert(command.name).second);
    EXPECT_NE(command.run, nullptr);
    EXPECT_FALSE(command.summary.empty());
    EXPECT_NE(command.summary.back(), '.');
    EXPECT_THAT(HelpText("1"), HasSubstr(std::string(command.summary)));
    std::set<std::string_view> options;
    for (const std::span<const OptionSpec> list : {command.options, GlobalOptions()}) {
      for (const OptionSpec& option : list) {
        EXPECT_TRUE(option.name.starts_with("--")) << option.name;
        EXPECT_TRUE(options.insert(option.name).second) << option.name;
        EXPECT_TRUE(option.short_name.empty() || options.insert(option.short_name).second) << option.short_name;
        EXPECT_EQ(option.value == ValueKind::None, option.placeholder.empty()) << option.name;
        EXPECT_FALSE(option.help.empty());
        EXPECT_THAT(HelpText(command), HasSubstr(std::string(option.help)));
      }
    }
    for (size_t i = 0; i < command.arguments.size(); ++i) {
      EXPECT_TRUE(!command.arguments[i].repeated || i + 1 == command.arguments.size());
      EXPECT_TRUE(i == 0 || !command.arguments[i - 1].optional || command.arguments[i].optional);
    }
  }
}

TEST(Durations, AreExactAndNeedAUnit) {
  EXPECT_EQ(ParseDurationMs("500ms"), 500);
  EXPECT_EQ(ParseDurationMs("1.5h"), 5'400'000);
  EXPECT_EQ(ParseDurationMs("2d"), 172'800'000);
  for (const char* bad : {"", "5", "s", "1.0001s", ".5s", "5.s", "1e3s", "-1s", "99999999999999d", "5 s", "5sec"}) {
    EXPECT_EQ(ParseDurationMs(bad), std::nullopt) << bad;
  }
}

TEST(UsageErrors, LookLikeDiagnosticsAndNeverObeyWhatWasTyped) {
  EXPECT_EQ(RenderUsageError({"unknown option `\x1b[2J`", {"did you mean it?"}}, false),
            "error: unknown option `␛[2J`\n  = help: did you mean it?\n");
}

TEST(ExplainTexts, HaveOneSectionForEachCode) {
  std::set<std::string_view> codes;
  for (const ExplainText& each : ExplainTexts()) {
    EXPECT_TRUE(codes.insert(each.code).second) << each.code;
    EXPECT_FALSE(each.title.empty()) << each.code;
    EXPECT_TRUE(each.text.starts_with("## ")) << each.code;
    EXPECT_TRUE(each.text.ends_with("\n") && !each.text.ends_with("\n\n")) << each.code;
  }
  EXPECT_FALSE(codes.empty());
}

TEST(ExplainTexts, CoverEveryCodeThatJobcCanGive) {
  std::set<std::string_view> explained;
  for (const ExplainText& each : ExplainTexts()) explained.insert(each.code);
  for (const DiagnosticKind* kind : AllDiagnosticKinds()) {
    EXPECT_TRUE(explained.count(kind->code)) << kind->code << " (" << kind->name << ") has no section in docs/diagnostics.md";
  }
}

TEST(ExplainTexts, SayWhatWhenAndHowItIsWrittenRight) {
  std::string_view previous;
  for (const ExplainText& each : ExplainTexts()) {
    SCOPED_TRACE(std::string(each.code));
    // Sorted by number, so that a person who leafs through finds a code where it is expected.
    EXPECT_LE(previous.empty() ? "" : previous.substr(1), each.code.substr(1));
    previous = each.code;
    const std::string severity = each.code.starts_with('E') ? "*Error, found by `jobc " : each.code.starts_with('W') ? "*Warning, found by `jobc " : "*Found by `jobc run`";
    EXPECT_THAT(std::string(each.text), HasSubstr(severity));
    const size_t wrong = each.text.find("\nWrong"), right = each.text.find("\nRight");
    ASSERT_NE(wrong, std::string_view::npos);
    ASSERT_NE(right, std::string_view::npos);
    EXPECT_LT(each.text.find("```job\n", wrong), right);
    EXPECT_NE(each.text.find("```job\nedition = 1\n", right), std::string_view::npos);
  }
}

TEST(CommandLine, OptionsWithOptionalOrRepeatedValues) {
  static constexpr OptionSpec kOptions[] = {
      {"--resume", "", ValueKind::Run, "RUN", "go on", false, true},
      {"--param", "-p", ValueKind::Parameter, "NAME=VALUE", "set it", true},
  };
  static constexpr CommandSpec kCommand = {"x", "x", "", {}, kOptions, Nothing};
  EXPECT_THAT(HelpText(kCommand), HasSubstr("    --resume [RUN]"));
  EXPECT_THAT(HelpText(kCommand), HasSubstr("-p, --param NAME=VALUE"));
  EXPECT_THAT(Invocation(kCommand).Values("--param"), IsEmpty());
}

}  // namespace
}  // namespace jobc
