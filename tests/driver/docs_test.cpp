// The tables of the documentation that are made from the tables of the program. A difference fails the test;
// `docs_test --update` writes them anew.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <sstream>
#include <string>

#include "compiler/check/schema.h"
#include "compiler/driver/command_line.h"
#include "ir/evaluate.h"

namespace jobc {
namespace {

bool update = false;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void ExpectDocument(const std::string& path, const std::string& expected) {
  if (update) {
    std::ofstream(path, std::ios::binary) << expected;
    return;
  }
  EXPECT_EQ(ReadFile(path), expected) << path << " is not what the tables of the program say; run docs_test --update";
}

/// `|` ends a cell, also inside backticks.
std::string Cell(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c;
  }
  return out;
}

std::string CommandsText() {
  std::string out;
  const auto options = [&](std::span<const OptionSpec> list) {
    out += "| Option | |\n|---|---|\n";
    for (const OptionSpec& option : list) {
      std::string title = option.short_name.empty() ? "" : fmt::format("{}, ", option.short_name);
      title += option.name;
      if (option.value != ValueKind::None) {
        title += option.value_optional && option.value == ValueKind::Run ? fmt::format(" [{}]", option.placeholder)
                 : option.value_optional                                ? fmt::format("[={}]", option.placeholder)
                                                                        : fmt::format(" {}", option.placeholder);
      }
      out += fmt::format("| `{}` | {}{} |\n", Cell(title), Cell(option.help), option.repeated ? "; may be repeated" : "");
    }
    out += '\n';
  };
  for (const CommandSpec& command : Commands()) {
    std::string usage = fmt::format("jobc {}", command.name);
    for (const ArgumentSpec& argument : command.arguments) {
      const std::string shown = fmt::format("{}{}", argument.name, argument.repeated ? "..." : "");
      usage += argument.optional ? " [" + shown + "]" : " " + shown;
    }
    out += fmt::format("### {}\n\n`{}`: {}.\n\n", command.name, usage, command.summary);
    if (!command.details.empty()) out += fmt::format("{}\n\n", command.details);
    if (!command.arguments.empty()) {
      out += "| Argument | |\n|---|---|\n";
      for (const ArgumentSpec& argument : command.arguments) out += fmt::format("| `{}` | {} |\n", argument.name, Cell(argument.help));
      out += '\n';
    }
    if (!command.options.empty()) options(command.options);
  }
  out += "### Options of every command\n\n";
  options(GlobalOptions());
  return out;
}

TEST(Docs, CommandLineListsEveryCommandAndOption) {
  const std::string path = "docs/command-line.md";
  const std::string text = ReadFile(path);
  const size_t begin = text.find("<!-- commands: begin");
  const size_t end = text.find("<!-- commands: end -->");
  ASSERT_NE(begin, std::string::npos);
  ASSERT_NE(end, std::string::npos);
  const size_t first = text.find('\n', begin) + 1;
  ExpectDocument(path, text.substr(0, first) + "\n" + CommandsText() + text.substr(end));
}

std::string BlocksText(uint32_t blocks) {
  std::string out;
  for (uint32_t bit = 1; bit != 0 && bit <= blocks; bit <<= 1) {
    if ((blocks & bit) != 0) out += fmt::format("{}{}", out.empty() ? "" : ", ", check::BlockTitle(bit));
  }
  return out;
}

std::string_view PhaseText(Phase phase) {
  switch (phase) {
    case Phase::C: return "C";
    case Phase::P: return "P";
    case Phase::S: return "S";
    case Phase::A: return "A";
    case Phase::E: return "E";
    case Phase::R: return "R";
  }
  return "";
}

std::string_view MergeText(check::MergeRule merge) {
  switch (merge) {
    case check::MergeRule::Replace: return "replaced";
    case check::MergeRule::ByKey: return "by key";
    case check::MergeRule::ByLabel: return "by label";
    case check::MergeRule::LaterFirst: return "later arms first";
    case check::MergeRule::Action: return "one of the group";
  }
  return "";
}

std::string AttributesText() {
  std::string out =
      "# Attributes\n\n"
      "Made from the schema tables of the compiler by `docs_test --update`. The [reference](language.md) says what they\n"
      "mean together. *Phase* is the latest moment at which the value may become known\n"
      "([explained here](language.md#6-when-a-value-is-known)); *merged* says what happens where several layers set it;\n"
      "*key* marks what is part of the cache key.\n\n"
      "## Declarations\n\n| Declaration | |\n|---|---|\n";
  for (const check::TopLevel& each : check::TopLevelBlocks()) out += fmt::format("| `{}` | {} |\n", Cell(each.form), Cell(each.doc));
  out += "\n## Blocks and attributes\n\n| Name | Type | Stands in | Phase | Merged | Key | |\n|---|---|---|---|---|---|---|\n";
  for (const check::Attribute& each : check::Attributes()) {
    const std::string_view shape = each.shape == check::Shape::Attr ? " =" : each.shape == check::Shape::Block ? " { }" : "";
    out += fmt::format("| `{}{}` | `{}` | {} | {} | {} | {} | {} |\n", each.name, shape, Cell(each.type), BlocksText(each.blocks),
                       PhaseText(each.latest), MergeText(each.merge), each.cache_key ? "yes" : "", Cell(each.doc));
  }
  out +=
      "\n## Backends\n\n"
      "What a file may ask of each: anything else is E601, above a limit E602, out of sight E603. *Secrets* are `private` (read on\n"
      "the machine of jobc by `env(…)` or `file(…)`, and passed on without anybody seeing them) or `stored` (`store(…)`: the cloud\n"
      "resolves them). Every backend sees local files; those with a *bucket* need `staging = \"gs://…\"` for that.\n\n"
      "| Backend | Image | ENTRYPOINT kept | Secrets | Secret files | `inherit_env` | `gpu` | `spot` | `disk` | `grace` | URIs | Bucket | Most |\n"
      "|---|---|---|---|---|---|---|---|---|---|---|---|---|\n";
  for (int i = 0; i < ir::kBackendKinds; ++i) {
    const check::BackendSchema& schema = check::SchemaOf(static_cast<ir::BackendKind>(i));
    const check::Capabilities& can = schema.can;
    const auto yes = [](bool b) { return b ? "yes" : ""; };
    std::string most;
    const auto limit = [&](bool given, const std::string& text) { most += given ? (most.empty() ? "" : ", ") + text : ""; };
    limit(can.max_cpu > 0, fmt::format("{} cpu", can.max_cpu));
    limit(can.max_memory > 0, ir::BytesText(can.max_memory));
    limit(can.max_gpu > 0, fmt::format("{} gpu", can.max_gpu));
    limit(can.max_run_ms > 0, ir::DurationText(can.max_run_ms));
    out += fmt::format("| `{}` | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |\n", ir::BackendName(schema.kind),
                       can.needs_image ? "needed" : yes(can.takes_image), yes(can.image_args),
                       can.secrets == check::SecretCarriers::None ? "" : can.secrets == check::SecretCarriers::Private ? "private" : "stored",
                       yes(can.secret_files && can.secrets != check::SecretCarriers::None), yes(can.inherit_env), yes(can.gpu), yes(can.spot), yes(can.disk), yes(can.grace),
                       can.schemes, yes(can.needs_staging), most);
  }
  for (int i = 0; i < ir::kBackendKinds; ++i) {
    const auto kind = static_cast<ir::BackendKind>(i);
    const check::BackendSchema& schema = check::SchemaOf(kind);
    out += fmt::format("\n### {}\n\n{}.{}\n\n", ir::BackendName(kind), schema.doc,
                       schema.can.built ? "" : " Files are checked for it; this jobc does not run on it yet (exit code 14).");
    out += "| Option | Type | |\n|---|---|---|\n";
    for (const check::BackendOption& option : schema.options) {
      out += fmt::format("| `{}` | `{}` | {}{}{} |\n", option.name, Cell(option.type), Cell(option.doc),
                         option.words.empty() ? "" : fmt::format(" (one of: {})", option.words), option.required ? "; required" : "");
    }
  }
  return out;
}

TEST(Docs, AttributesListTheSchemaTables) { ExpectDocument("docs/attributes.md", AttributesText()); }

}  // namespace
}  // namespace jobc

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  jobc::update = argc > 1 && std::strcmp(argv[1], "--update") == 0;
  return RUN_ALL_TESTS();
}
