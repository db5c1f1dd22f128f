// `jobc lint`: the warnings of `check` and findings about style, with a baseline: what is in it is not told again, so that a
// large file can be held to "no new findings". A baseline knows findings by file, code and message, not by line, and how many
// of each there were.
#include <fmt/format.h>

#include <cctype>
#include <fstream>
#include <map>
#include <sstream>
#include <tuple>

#include "compiler/check/check.h"
#include "compiler/diagnostics/allow.h"
#include "compiler/driver/load.h"
#include "compiler/driver/report.h"
#include "compiler/driver/shellcheck.h"
#include "compiler/parse/parse.h"
#include "ir/json.h"
#include "support/exit_code.h"
#include "support/write_file.h"

namespace jobc {
namespace {

constexpr std::string_view kBaselineSchema = "jobc.baseline/1";

// ---- Style -------------------------------------------------------------------------------------------------------------

/// `max_rows`: how values, jobs and attributes are named.
std::string LowerSnake(std::string_view name) {
  std::string out;
  for (size_t i = 0; i < name.size(); ++i) {
    const auto c = static_cast<unsigned char>(name[i]);
    if (std::isupper(c) != 0) {
      const bool word_begins = i > 0 && name[i - 1] != '_' && (std::isupper(static_cast<unsigned char>(name[i - 1])) == 0 || (i + 1 < name.size() && std::islower(static_cast<unsigned char>(name[i + 1])) != 0));
      if (word_begins) out += '_';
      out += static_cast<char>(std::tolower(c));
    } else {
      out += static_cast<char>(c);
    }
  }
  return out;
}

/// `TableStats`: how types are named. A leading lower-case letter or an underscore are what this changes.
std::string UpperCamel(std::string_view name) {
  std::string out;
  bool upper = true;
  for (const char c : name) {
    if (c == '_') {
      upper = true;
      continue;
    }
    out += upper ? static_cast<char>(std::toupper(static_cast<unsigned char>(c))) : c;
    upper = false;
  }
  return out;
}

class Style {
 public:
  Style(const ast::File& file, Diagnostics& diags) : file_(file), diags_(diags) {}

  void Look() {
    for (const ast::ItemId* id = file_.begin(file_.root); id != file_.end(file_.root); ++id) Declaration(file_[*id]);
  }

 private:
  void Name(std::string_view what, std::string_view name, Span span, bool is_type) {
    const std::string wanted = is_type ? UpperCamel(name) : LowerSnake(name);
    if (name.empty() || name.starts_with('_') || wanted.empty() || wanted == name) return;
    diags_.Emit(span, diag::NameStyle, what, name)
        .Label(is_type ? "types are written like `TableStats`" : "names are written like `max_rows`")
        .AddHelp(fmt::format("rename it to `{}`, here and where it is used", wanted));
  }

  void Label(const ast::Item& item, std::string_view what, bool is_type) {
    if (item.labels.empty() || item.labels[0].is_string || item.labels[0].path.size() != 1) return;
    Name(what, item.labels[0].path[0].text, item.labels[0].path[0].span, is_type);
  }

  void Fields(const ast::Item& block, std::string_view what) {
    for (const ast::ItemId* id = file_.begin(block.children); id != file_.end(block.children); ++id) {
      if (file_[*id].kind == ast::ItemKind::Field) Name(what, file_[*id].name.text, file_[*id].name.span, false);
    }
  }

  void Declaration(const ast::Item& item) {
    using ast::ItemKind;
    switch (item.kind) {
      case ItemKind::Let: Name("the constant", item.name.text, item.name.span, false); return;
      case ItemKind::Fn: Name("the function", item.name.text, item.name.span, false); return;
      case ItemKind::Secret: Name("the secret", item.name.text, item.name.span, false); return;
      case ItemKind::Enum: Name("the enum", item.name.text, item.name.span, true); return;
      case ItemKind::Alias: Name("the type", item.name.text, item.name.span, true); return;
      case ItemKind::Block: break;
      default: return;
    }
    const std::string_view kind = item.name.text;
    if (kind == "struct") {
      Label(item, "the struct", true);
      return;
    }
    if (kind == "params") {
      Fields(item, "the parameter");
      for (const ast::ItemId* id = file_.begin(item.children); id != file_.end(item.children); ++id) {
        const ast::Item& field = file_[*id];
        if (field.kind != ItemKind::Field || !field.doc.empty()) continue;
        diags_.Emit(field.name.span, diag::Undocumented, field.name.text)
            .Label("shown without a word by `jobc inputs` and `jobc doc`")
            .AddHelp("write a line above it:  ## What it means.");
      }
    } else if (kind == "export") {
      Fields(item, "the export");
    } else if (kind == "job" || kind == "template" || kind == "check" || kind == "pool" || kind == "profile") {
      const std::string what = fmt::format("the {}", kind);
      Label(item, what, false);
      for (const ast::ItemId* id = file_.begin(item.children); id != file_.end(item.children); ++id) {
        const ast::Item& child = file_[*id];
        if (child.kind != ItemKind::Block) continue;
        if (child.name.text == "input") Fields(child, "the input");
        if (child.name.text == "output") Fields(child, "the output");
        if (child.name.text == "params") Fields(child, "the parameter");
      }
    }
  }

  const ast::File& file_;
  Diagnostics& diags_;
};

// ---- Baseline ----------------------------------------------------------------------------------------------------------

using Finding = std::tuple<std::string, std::string, std::string>;   // file, code, message
using Baseline = std::map<Finding, int64_t>;

Finding FindingOf(const Diagnostic& diagnostic, const SourceManager& sources) {
  const Span at = diagnostic.primary.span;
  return {at.valid() ? sources[at.source].name : "", std::string(diagnostic.kind->code), diagnostic.message};
}

std::string BaselineText(const Baseline& baseline) {
  std::string out = fmt::format("{{\n  \"findings\": [");
  bool first = true;
  for (const auto& [finding, count] : baseline) {
    out += fmt::format("{}\n    {{\"code\": {}, \"count\": {}, \"file\": {}, \"message\": {}}}", first ? "" : ",", ir::JsonQuote(std::get<1>(finding)), count,
                       ir::JsonQuote(std::get<0>(finding)), ir::JsonQuote(std::get<2>(finding)));
    first = false;
  }
  return out + fmt::format("{}],\n  \"schema\": \"{}\"\n}}\n", first ? "" : "\n  ", kBaselineSchema);
}

Result<Baseline> ReadBaseline(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return Error{fmt::format("cannot read the baseline `{}`", path)};
  std::ostringstream text;
  text << file.rdbuf();
  const auto broken = [&](std::string_view why) { return Error{fmt::format("`{}` is no baseline: {}", path, why)}; };
  Result<ir::Value> json = ir::ParseJson(text.str());
  if (!json.ok()) return broken(json.error().message);
  if (json->kind() != ir::ValueKind::Map) return broken("an object is expected");
  const ir::Value* const schema = json->Find("schema");
  const ir::Value* const findings = json->Find("findings");
  if (schema == nullptr || schema->kind() != ir::ValueKind::String || schema->as_string() != kBaselineSchema) return broken(fmt::format("`schema` is not \"{}\"", kBaselineSchema));
  if (findings == nullptr || findings->kind() != ir::ValueKind::List) return broken("`findings` is not a list");
  Baseline out;
  for (const ir::Value& each : findings->as_list()) {
    if (each.kind() != ir::ValueKind::Map) return broken("a finding is not an object");
    const auto text_of = [&](std::string_view name) -> const ir::Value* {
      const ir::Value* const found = each.Find(name);
      return found != nullptr && found->kind() == ir::ValueKind::String ? found : nullptr;
    };
    const ir::Value *const in = text_of("file"), *const code = text_of("code"), *const message = text_of("message"), *const count = each.Find("count");
    if (in == nullptr || code == nullptr || message == nullptr || count == nullptr || count->kind() != ir::ValueKind::Int || count->as_int() < 1) {
      return broken("a finding needs `file`, `code`, `message` and `count`");
    }
    out[{in->as_string(), code->as_string(), message->as_string()}] += count->as_int();
  }
  return out;
}

struct Dropping {
  const SourceManager& sources;
  Baseline left;
};

bool IsKnown(const Diagnostic& diagnostic, void* context) {
  auto& dropping = *static_cast<Dropping*>(context);
  if (diagnostic.kind->severity != Severity::Warning) return false;
  const auto known = dropping.left.find(FindingOf(diagnostic, dropping.sources));
  if (known == dropping.left.end() || known->second == 0) return false;
  --known->second;
  return true;
}

int Refuse(Terminal& terminal, std::string message, std::vector<std::string> helps, int code = kExitUsage) {
  terminal.Err(RenderUsageError({std::move(message), std::move(helps)}, terminal.err_color()));
  return code;
}

}  // namespace

int RunLint(const Invocation& invocation, Terminal& terminal) {
  const std::string baseline_path(invocation.ValueOr("--baseline", ""));
  const bool write = invocation.Has("--write-baseline");
  if (write && baseline_path.empty()) return Refuse(terminal, "`--write-baseline` needs to know where to", {"name the file:  jobc lint --baseline lint.json --write-baseline"});
  Baseline known;
  if (!baseline_path.empty() && !write) {
    Result<Baseline> read = ReadBaseline(baseline_path);
    if (!read.ok()) return Refuse(terminal, read.error().message, {fmt::format("write it anew:  jobc lint --baseline {} --write-baseline", baseline_path)});
    known = std::move(*read);
  }
  SourceManager sources;
  const LoadedRoots roots = LoadRoots(invocation.arguments(), "lint", sources);
  if (roots.error) {
    terminal.Err(RenderUsageError(*roots.error, terminal.err_color()));
    return kExitUsage;
  }
  Diagnostics diags;
  std::vector<ShellScript> scripts;
  for (const SourceId root : roots.sources) {
    const Model model = Check(root, sources, diags);
    scripts.insert(scripts.end(), model.shell_scripts.begin(), model.shell_scripts.end());
    Diagnostics again;   // what the parser says was said by Check
    Style(Parse(root, sources, again), diags).Look();
  }
  if (!diags.has_errors()) RunShellcheck(scripts, sources, diags);
  DropAllowed(diags, sources);
  diags.Sort();
  if (diags.has_errors()) return ReportDiagnostics(invocation, terminal, sources, diags);
  if (write) {
    Baseline found;
    for (const Diagnostic& each : diags.all()) ++found[FindingOf(each, sources)];
    if (Result<void> written = WriteNamedFile(baseline_path, BaselineText(found)); !written.ok()) return Refuse(terminal, written.error().message, {}, kExitEnvironment);
    terminal.Err(fmt::format("{}: {} finding{}\n", baseline_path, diags.all().size(), diags.all().size() == 1 ? "" : "s"));
    return kExitOk;
  }
  Dropping dropping{sources, std::move(known)};
  diags.Filter(IsKnown, &dropping);
  ReportDiagnostics(invocation, terminal, sources, diags);
  int64_t gone = 0;
  for (const auto& [finding, count] : dropping.left) gone += count;
  if (gone > 0) {
    terminal.Err(fmt::format("note: {} finding{} of the baseline {} gone; to forget {}:  jobc lint --baseline {} --write-baseline\n", gone, gone == 1 ? "" : "s",
                             gone == 1 ? "is" : "are", gone == 1 ? "it" : "them", baseline_path));
  }
  return diags.all().empty() ? kExitOk : kExitFindings;
}

}  // namespace jobc
