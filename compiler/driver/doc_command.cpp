// `jobc doc FILE`: what a file takes, does and gives, as Markdown, from its doc comments. Made from the syntax tree, so that
// it shows a declaration as it is written and also works for modules that only hold templates and functions; the file is
// checked first, so a page never shows what does not compile.
#include <fmt/format.h>

#include <algorithm>

#include "compiler/ast/ast.h"
#include "compiler/check/check.h"
#include "compiler/driver/load.h"
#include "compiler/driver/report.h"
#include "compiler/parse/parse.h"
#include "ir/json.h"
#include "stdlib/stdlib.h"
#include "support/exit_code.h"

namespace jobc {
namespace {

using ast::Item;
using ast::ItemKind;

/// Line breaks and the blanks around them become one blank; blanks inside a line stay, they may be part of a string.
std::string OneLine(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\n' && text[i] != '\r') {
      out += text[i];
      continue;
    }
    while (!out.empty() && (out.back() == ' ' || out.back() == '\t')) out.pop_back();
    while (i + 1 < text.size() && (text[i + 1] == ' ' || text[i + 1] == '\t' || text[i + 1] == '\n' || text[i + 1] == '\r')) ++i;
    if (!out.empty() && i + 1 < text.size()) out += ' ';
  }
  return out;
}

/// Doc comments as Markdown: lines that are indented by two or more are code.
std::string Fenced(std::string_view text) {
  std::string out;
  bool code = false;
  size_t pending = 0;   // empty lines seen inside code, which may be behind its end
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.empty()) {
      if (code) ++pending;
      else out += '\n';
      continue;
    }
    const bool indented = line.starts_with("  ");
    if (indented != code) out += code ? "```\n" : "```job\n";
    out.append(pending, '\n');
    pending = 0;
    code = indented;
    out += fmt::format("{}\n", indented ? line.substr(2) : line);
  }
  if (code) out += "```\n";
  return out;
}

/// In backticks, as many as the text needs.
std::string Code(std::string_view text) {
  if (text.find('`') == std::string_view::npos) return fmt::format("`{}`", text);
  return fmt::format("`` {} ``", text);
}

/// `|` ends a cell of a table, also in backticks; a line break ends the row.
std::string Cell(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out;
}

class Page {
 public:
  Page(const ast::File& file, const SourceManager& sources) : file_(file), sources_(sources) {}

  std::string Write(std::string_view title) {
    out_ = fmt::format("# {}\n", title);
    Paragraph(FileDoc());
    Imports();
    Section("Parameters", "params", &Page::Params);
    Declarations("Types", [](const Item& item) { return item.kind == ItemKind::Enum || item.kind == ItemKind::Alias || IsBlock(item, "struct"); }, &Page::Type);
    Declarations("Constants and functions", [](const Item& item) { return item.kind == ItemKind::Let || item.kind == ItemKind::Fn; }, &Page::Value);
    Declarations("Secrets", [](const Item& item) { return item.kind == ItemKind::Secret; }, &Page::Secret);
    Declarations("Templates", [](const Item& item) { return IsBlock(item, "template"); }, &Page::Job);
    Declarations("Modules", [](const Item& item) { return item.kind == ItemKind::Module; }, &Page::Module);
    Declarations("Pools", [](const Item& item) { return IsBlock(item, "pool"); }, &Page::Pool);
    Declarations("Jobs", [](const Item& item) { return IsBlock(item, "job") || IsBlock(item, "check") || IsBlock(item, "finally") || IsBlock(item, "hook"); }, &Page::Job);
    Section("Result", "export", &Page::Exports);
    Section("Published files", "publish", &Page::Publish);
    Declarations("Profiles", [](const Item& item) { return IsBlock(item, "profile"); }, &Page::Profile);
    return std::move(out_);
  }

 private:
  static bool IsBlock(const Item& item, std::string_view name) { return item.kind == ItemKind::Block && item.name.text == name; }

  /// Source text on one line, without its comments.
  std::string Text(Span span) const {
    std::string text;
    uint32_t from = span.begin;
    for (const ast::Comment& comment : file_.comments) {
      if (comment.span.begin < from || comment.span.end > span.end) continue;
      text += sources_.Text({span.source, from, comment.span.begin});
      from = comment.span.end;
    }
    return OneLine(text + std::string(sources_.Text({span.source, from, span.end})));
  }
  std::string TypeText(ast::TypeId type) const { return type.valid() ? Text(file_[type].span) : ""; }
  std::string ExprText(ast::ExprId expr) const { return expr.valid() ? Text(file_[expr].span) : ""; }

  static std::string LabelText(const Item& item) {
    return item.labels.empty() ? "" : item.labels[0].is_string ? item.labels[0].text : item.labels[0].path.empty() ? "" : std::string(item.labels[0].path[0].text);
  }

  /// What documents the file is written before `edition`.
  std::string FileDoc() const {
    for (const ast::ItemId* id = file_.begin(file_.root); id != file_.end(file_.root); ++id) {
      if (file_[*id].kind == ItemKind::Attr || file_[*id].kind == ItemKind::Edition) return file_[*id].doc;
      break;
    }
    return {};
  }

  void Paragraph(std::string_view text) {
    if (!text.empty()) out_ += fmt::format("\n{}", Fenced(text));
  }

  template <typename Wanted>
  void Declarations(std::string_view title, Wanted wanted, void (Page::*write)(const Item&)) {
    bool first = true;
    for (const ast::ItemId* id = file_.begin(file_.root); id != file_.end(file_.root); ++id) {
      if (!wanted(file_[*id])) continue;
      if (first) out_ += fmt::format("\n## {}\n", title);
      first = false;
      (this->*write)(file_[*id]);
    }
  }

  /// All blocks of one name, below one title.
  void Section(std::string_view title, std::string_view name, void (Page::*write)(const Item&)) {
    Declarations(title, [name](const Item& item) { return IsBlock(item, name); }, write);
  }

  void Imports() {
    Declarations("Imports", [](const Item& item) { return item.kind == ItemKind::Import; }, &Page::Import);
  }
  void Import(const Item& item) {
    out_ += fmt::format("\n- `{}` as `{}`{}{}\n", Unquoted(ExprText(item.value)), item.name.text, item.doc.empty() ? "" : ": ", OneLine(item.doc));
  }

  static std::string Unquoted(std::string text) {
    return text.size() >= 2 && text.front() == '"' && text.back() == '"' ? text.substr(1, text.size() - 2) : text;
  }

  void Params(const Item& item) {
    Paragraph(item.doc);
    Fields(item, "Parameter", "Default", "required");
  }

  /// A table of the fields of a block, and the conditions below it.
  void Fields(const Item& block, std::string_view what, std::string_view value_title, std::string_view without_value) {
    bool any = false;
    for (const ast::ItemId* id = file_.begin(block.children); id != file_.end(block.children); ++id) {
      const Item& field = file_[*id];
      if (field.kind != ItemKind::Field && field.kind != ItemKind::Attr) continue;
      if (!any) out_ += fmt::format("\n| {} | Type | {} | |\n|---|---|---|---|\n", what, value_title);
      any = true;
      const std::string value = ExprText(field.value);
      const std::string type = TypeText(field.type);
      const bool optional = field.type.valid() && file_[field.type].optional;
      out_ += fmt::format("| {} | {} | {} | {} |\n", Cell(Code(field.name.text)), type.empty() ? "" : Cell(Code(type)),
                          !value.empty() ? Cell(Code(value)) : optional ? "`null`" : std::string(without_value), Cell(field.doc));
    }
    bool first = true;
    for (const ast::ItemId* id = file_.begin(block.children); id != file_.end(block.children); ++id) {
      const Item& require = file_[*id];
      if (require.kind != ItemKind::Require) continue;
      if (first) out_ += "\nRequired:\n\n";
      first = false;
      out_ += fmt::format("- {}{}\n", Code(ExprText(require.value)), require.value2.valid() ? fmt::format(", else: {}", Unquoted(ExprText(require.value2))) : "");
    }
  }

  void Type(const Item& item) {
    const std::string name = item.kind == ItemKind::Block ? LabelText(item) : std::string(item.name.text);
    out_ += fmt::format("\n### {}\n", name);
    Paragraph(item.doc);
    if (item.kind == ItemKind::Alias) {
      out_ += fmt::format("\n{}\n", Code(fmt::format("type {} = {}", name, TypeText(item.type))));
      return;
    }
    if (item.kind == ItemKind::Block) {
      if (item.open) out_ += "\nOpen: unknown fields are passed over.\n";
      Fields(item, "Field", "Default", "required");
      return;
    }
    out_ += '\n';
    for (const ast::ItemId* id = file_.begin(item.children); id != file_.end(item.children); ++id) {
      const Item& each = file_[*id];
      out_ += fmt::format("- `{}`{}{}\n", each.name.text, each.doc.empty() ? "" : ": ", OneLine(each.doc));
    }
  }

  void Value(const Item& item) {
    const std::string text = Text(item.span);
    // A function's signature ends before its `=`; a constant is shown whole.
    std::string shown = text;
    if (item.kind == ItemKind::Fn && item.type.valid()) {
      shown = Text({item.span.source, item.span.begin, file_[item.type].span.end});
    }
    out_ += fmt::format("\n### {}\n\n{}\n", item.name.text, Code(shown));
    Paragraph(item.doc);
  }

  void Secret(const Item& item) {
    out_ += fmt::format("\n- `{}`, from {}{}{}\n", item.name.text, Code(ExprText(item.value)), item.doc.empty() ? "" : ": ", OneLine(item.doc));
  }

  void Module(const Item& item) {
    std::string path;
    for (const ast::Name& each : item.path) path += (path.empty() ? "" : ".") + std::string(each.text);
    out_ += fmt::format("\n### {}\n\nInstance of `{}`.\n", item.name.text, path);
    Paragraph(item.doc);
    Fields(item, "Argument", "Value", "");
  }

  void Pool(const Item& item) {
    out_ += fmt::format("\n### {}\n", LabelText(item));
    Paragraph(item.doc);
    Attributes(item, {"slots"});
  }

  const Item* Child(const Item& block, std::string_view name) const {
    for (const ast::ItemId* id = file_.begin(block.children); id != file_.end(block.children); ++id) {
      if (file_[*id].name.text == name && (file_[*id].kind == ItemKind::Block || file_[*id].kind == ItemKind::Attr)) return &file_[*id];
    }
    return nullptr;
  }

  void Attributes(const Item& block, std::initializer_list<std::string_view> names) {
    bool first = true;
    for (const std::string_view name : names) {
      const Item* const found = Child(block, name);
      if (found == nullptr) continue;
      if (first) out_ += '\n';
      first = false;
      out_ += fmt::format("- {}\n", Code(Text(found->span)));
    }
  }

  void Job(const Item& item) {
    std::string title = LabelText(item);
    if (!IsBlock(item, "job") && !IsBlock(item, "template")) title = title.empty() ? std::string(item.name.text) : fmt::format("{} {}", item.name.text, title);
    const bool is_hook = IsBlock(item, "hook");
    if (is_hook) {
      title = "hook";
      for (const ast::Label& label : item.labels) title += fmt::format(" {}", label.is_string || label.path.empty() ? label.text : std::string(label.path[0].text));
    }
    out_ += fmt::format("\n### {}\n", title);
    // A doc comment at the start of the block is written for the block, though the syntax tree gives it to the first item.
    const Item* const first = item.children.size > 0 ? &file_[*file_.begin(item.children)] : nullptr;
    const bool inside = item.doc.empty() && first != nullptr;
    Paragraph(inside ? first->doc : item.doc);
    std::vector<std::string> lines;
    std::string uses;
    for (size_t i = 1; !is_hook && i < item.labels.size(); ++i) {
      if (item.labels[i].is_string || item.labels[i].path.empty()) continue;
      std::string path;
      for (const ast::Name& each : item.labels[i].path) path += (path.empty() ? "" : ".") + std::string(each.text);
      if (path != "uses") uses += (uses.empty() ? "`" : ", `") + path + "`";
    }
    if (!uses.empty()) lines.push_back("uses " + uses);
    for (const ast::ItemId* id = file_.begin(item.children); id != file_.end(item.children); ++id) {
      const Item& child = file_[*id];
      std::string line;
      if (child.kind == ItemKind::For || child.kind == ItemKind::Require) {
        line = Code(Text(child.span));
      } else if (child.kind == ItemKind::Attr && (child.name.text == "when" || child.name.text == "after" || child.name.text == "image" || child.name.text == "on_error")) {
        line = Code(Text(child.span));
      } else if (child.kind == ItemKind::Block && (child.name.text == "matrix" || child.name.text == "resources" || child.name.text == "timeout")) {
        line = Code(Text(child.span));
      }
      if (line.empty()) continue;
      if (!child.doc.empty() && !(inside && &child == first)) line += ": " + OneLine(child.doc);
      lines.push_back(std::move(line));
    }
    if (!lines.empty()) out_ += '\n';
    for (const std::string& line : lines) out_ += fmt::format("- {}\n", line);
    skipped_doc_ = inside ? first : nullptr;
    Block(item, "params", "Parameter", "Default", "required");
    Block(item, "input", "Input", "Value", "given by the job");
    Block(item, "output", "Output", "From", "JSON result");
  }

  void Block(const Item& job, std::string_view name, std::string_view what, std::string_view value, std::string_view without) {
    const Item* const block = Child(job, name);
    if (block == nullptr || block->kind != ItemKind::Block) return;
    if (block != skipped_doc_) Paragraph(block->doc);
    Fields(*block, what, value, without);
  }

  void Exports(const Item& item) {
    Paragraph(item.doc);
    Fields(item, "Field", "Value", "");
  }

  void Publish(const Item& item) {
    if (!item.labels.empty()) out_ += fmt::format("\nInto `{}`:\n", item.labels[0].text);
    Paragraph(item.doc);
    out_ += "\n";
    for (const ast::ItemId* id = file_.begin(item.children); id != file_.end(item.children); ++id) {
      const Item& entry = file_[*id];
      if (entry.kind != ItemKind::Attr || !entry.name_expr.valid()) continue;
      out_ += fmt::format("- {}: {}{}{}\n", Code(Unquoted(ExprText(entry.name_expr))), Code(ExprText(entry.value)), entry.doc.empty() ? "" : ", ", OneLine(entry.doc));
    }
  }

  void Profile(const Item& item) {
    bool is_default = false;
    for (size_t i = 1; i < item.labels.size(); ++i) is_default = is_default || (!item.labels[i].path.empty() && item.labels[i].path[0].text == "default");
    out_ += fmt::format("\n### {}{}\n", LabelText(item), is_default ? " (default)" : "");
    Paragraph(item.doc);
    Attributes(item, {"backend", "staging", "limits"});
  }

  const ast::File& file_;
  const SourceManager& sources_;
  const Item* skipped_doc_ = nullptr;   ///< its doc comment was shown as that of the job
  std::string out_;
};

}  // namespace

int RunDoc(const Invocation& invocation, Terminal& terminal) {
  SourceManager sources;
  const std::string& path = invocation.arguments().front();
  SourceId source;
  // `std/fetch`, `std/fetch@1`: a module of the standard library.
  const StdModule* module = nullptr;
  if (path.starts_with("std/")) module = FindStdModule(path.substr(4, path.find('@') == std::string::npos ? std::string::npos : path.find('@') - 4));
  if (module != nullptr) {
    source = sources.Add(fmt::format("std/{}", module->name), module->text);
  } else {
    LoadedRoot root = LoadRoot(path, sources);
    if (root.error) {
      if (path.starts_with("std/")) {
        root.error->helps.push_back(fmt::format("the modules of the standard library are {}", fmt::join(StdModuleNames(), ", ")));
      }
      terminal.Err(RenderUsageError(*root.error, terminal.err_color()));
      return kExitUsage;
    }
    source = *root.source;
  }
  Diagnostics diags;
  Check(source, sources, diags);
  // Warnings are for the author of the file, not for the reader of its page.
  if (diags.has_errors()) return ReportDiagnostics(invocation, terminal, sources, diags);
  Diagnostics again;
  const ast::File file = Parse(source, sources, again);
  const std::string markdown = Page(file, sources).Write(sources[source].name);
  terminal.Out(invocation.json() ? fmt::format("{{\"schema\":\"jobc.doc/1\",\"markdown\":{}}}\n", ir::JsonQuote(markdown)) : markdown);
  return kExitOk;
}

}  // namespace jobc
