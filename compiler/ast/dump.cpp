#include "compiler/ast/dump.h"

#include <fmt/format.h>

#include <iterator>
#include <string_view>

namespace jobc {
namespace {

using namespace ast;

constexpr std::string_view kBinaryNames[] = {"*", "/", "%", "+", "-", "??", "..", "==", "!=", "<", "<=", ">", ">=", "in", "&&", "||"};
constexpr std::string_view kTagNames[] = {"SH", "BASH", "PY", "R", "TXT"};

/// Recursion is bounded by kMaxExprDepth and kMaxNesting.
class Dumper {
 public:
  explicit Dumper(const File& file, bool positions = true) : file_(file), positions_(positions) {}

  void Items(Slice<ItemId> items, const SourceManager& sources, size_t level) {
    for (const ItemId* id = file_.begin(items); id != file_.end(items); ++id) Item(file_[*id], sources, level);
  }

  void Expression(ExprId id) {
    if (!id.valid()) {
      out_ += '_';
      return;
    }
    const Expr& e = file_[id];
    switch (e.kind) {
      case ExprKind::Error: out_ += "<error>"; break;
      case ExprKind::Null: out_ += "null"; break;
      case ExprKind::True: out_ += "true"; break;
      case ExprKind::False: out_ += "false"; break;
      case ExprKind::Int: Append("{}", e.int_value); break;
      case ExprKind::Float: FloatText(e.float_value); break;
      case ExprKind::Quantity: Append("{}{}", e.int_value, e.unit == Unit::Duration ? "ms" : "B"); break;
      case ExprKind::Regex:
        out_ += "(re ";
        Parts(e);
        out_ += ')';
        break;
      case ExprKind::String: StringOrParts("str", e); break;
      case ExprKind::Heredoc: StringOrParts(kTagNames[static_cast<size_t>(e.tag)], e); break;
      case ExprKind::Name: out_ += e.name.text; break;
      case ExprKind::Member: Group(".", {Child(e, 0)}, e.name.text); break;
      case ExprKind::OptMember: Group("?.", {Child(e, 0)}, e.name.text); break;
      case ExprKind::Star: out_ += '*'; break;
      case ExprKind::Unary: Group(e.unary == UnaryOp::Not ? "!" : "neg", {Child(e, 0)}); break;
      case ExprKind::Binary: Group(kBinaryNames[static_cast<size_t>(e.binary)], {Child(e, 0), Child(e, 1)}); break;
      case ExprKind::If: Group("if", {Child(e, 0), Child(e, 1), Child(e, 2)}); break;
      case ExprKind::Paren: Group("paren", {Child(e, 0)}); break;
      case ExprKind::Index:
        out_ += "(index";
        for (uint32_t i = 0; i < e.children.size; ++i) Spaced(Child(e, i));
        out_ += ')';
        break;
      case ExprKind::Call:
        out_ += "(call ";
        if (e.children.empty()) out_ += e.name.text;
        else Expression(Child(e, 0));
        Entries(e);
        out_ += ')';
        break;
      case ExprKind::Match:
        out_ += "(match";
        Spaced(Child(e, 0));
        Entries(e, true);
        out_ += ')';
        break;
      case ExprKind::List:
        out_ += "(list";
        Entries(e);
        out_ += ')';
        break;
      case ExprKind::Map:
        out_ += "(map";
        Entries(e, true);
        out_ += ')';
        break;
      case ExprKind::Struct:
        out_ += "(new";
        Spaced(Child(e, 0));
        Entries(e);
        out_ += ')';
        break;
      case ExprKind::ListFor: case ExprKind::MapFor:
        out_ += e.kind == ExprKind::ListFor ? "(list-for " : "(map-for ";
        out_ += e.name.text;
        if (e.name2.valid()) Append(" {}", e.name2.text);
        Spaced(Child(e, 0));
        Spaced(Child(e, 1));
        if (!e.entries.empty() && file_.entries[e.entries.begin].splice) out_ += " ...";
        Spaced(Child(e, 2));
        if (e.kind == ExprKind::MapFor) Spaced(Child(e, 3));
        out_ += ')';
        break;
      case ExprKind::TypeArgument: TypeText(e.type); break;
    }
  }

  void TypeText(TypeId id) {
    const Type& type = file_[id];
    if (type.module.valid()) Append("{}.", type.module.text);
    out_ += type.name.text.empty() ? std::string_view("<error>") : type.name.text;
    for (uint32_t i = 0; i < type.arguments.size; ++i) {
      out_ += i == 0 ? "<" : ", ";
      TypeText(file_.type_lists[type.arguments.begin + i]);
    }
    if (!type.arguments.empty()) out_ += '>';
    if (type.refinement.valid()) {
      out_ += '(';
      Expression(type.refinement);
      out_ += ')';
    }
    if (type.optional) out_ += '?';
  }

  std::string Take() { return std::move(out_); }

 private:
  ExprId Child(const Expr& e, uint32_t i) const { return file_.child(e, i); }
  template <typename... Args>
  void Append(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(out_), format, std::forward<Args>(args)...);
  }
  void FloatText(double value) {
    // Shortest form that reads back the same, with a point so that it is seen to be a Float.
    const std::string text = fmt::format("{}", value);
    out_ += text;
    if (text.find_first_of(".en") == std::string::npos) out_ += ".0";
  }
  void Spaced(ExprId id) {
    out_ += ' ';
    Expression(id);
  }
  void Group(std::string_view head, std::initializer_list<ExprId> children, std::string_view tail = {}) {
    Append("({}", head);
    for (ExprId id : children) Spaced(id);
    if (!tail.empty()) Append(" {}", tail);
    out_ += ')';
  }
  void Quoted(std::string_view text) {
    out_ += '"';
    for (char c : text) {
      switch (c) {
        case '\n': out_ += "\\n"; break;
        case '\r': out_ += "\\r"; break;
        case '\t': out_ += "\\t"; break;
        case '"': out_ += "\\\""; break;
        case '\\': out_ += "\\\\"; break;
        default:
          if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) Append("\\x{:02X}", static_cast<unsigned char>(c));
          else out_ += c;
      }
    }
    out_ += '"';
  }
  void Parts(const Expr& e) {
    for (uint32_t i = 0; i < e.parts.size; ++i) {
      const Part& part = file_.parts[e.parts.begin + i];
      if (i > 0) out_ += ' ';
      if (part.expr.valid()) {
        out_ += "~{";
        Expression(part.expr);
        out_ += part.splice ? "...}" : "}";
      } else {
        Quoted(part.text);
      }
    }
  }
  /// A constant string stands for itself; one with values, and a heredoc, is a group.
  void StringOrParts(std::string_view head, const Expr& e) {
    const bool constant = e.parts.size == 0 || (e.parts.size == 1 && !file_.parts[e.parts.begin].expr.valid());
    if (e.kind == ExprKind::String && constant) {
      Quoted(e.parts.size == 0 ? std::string_view() : std::string_view(file_.parts[e.parts.begin].text));
      return;
    }
    Append("({}{}", head, e.parts.size == 0 ? "" : " ");
    Parts(e);
    out_ += ')';
  }
  void Entries(const Expr& e, bool keyed = false) {
    for (uint32_t i = 0; i < e.entries.size; ++i) {
      const Entry& entry = file_.entries[e.entries.begin + i];
      out_ += ' ';
      if (keyed) {
        Expression(entry.key);
        out_ += e.kind == ExprKind::Match ? "=>" : "=";
      } else if (entry.name.valid()) {
        Append("{}=", entry.name.text);
      }
      if (entry.splice) out_ += "...";
      Expression(entry.value);
    }
  }
  void LabelText(const Label& label) {
    out_ += ' ';
    if (label.is_string) Quoted(label.text);
    for (size_t i = 0; i < label.path.size(); ++i) Append("{}{}", i == 0 ? "" : ".", label.path[i].text);
    for (size_t i = 0; i < label.index.size(); ++i) {
      out_ += i == 0 ? "[" : ", ";
      Expression(label.index[i]);
    }
    if (!label.index.empty()) out_ += ']';
  }

  void Item(const ast::Item& item, const SourceManager& sources, size_t level) {
    static constexpr std::string_view kKinds[] = {"error", "import", "let", "fn", "secret", "enum", "case", "module", "type",
                                                  "require", "for", "field", "attr", "block", "arm", "edition"};
    Append("{:{}}", "", level * 2);
    if (positions_) {
      const LineColumn at = sources.Locate(file_.source, item.span.begin);
      Append("{}:{} ", at.line, at.column);
    }
    out_ += kKinds[static_cast<size_t>(item.kind)];
    if (item.open) out_ += " open";
    if (item.name.valid()) Append(" {}", item.name.text);
    if (item.name2.valid()) Append(", {}", item.name2.text);
    if (item.name_expr.valid()) Spaced(item.name_expr);
    for (const Label& label : item.labels) LabelText(label);
    for (size_t i = 0; i < item.path.size(); ++i) Append("{}{}", i == 0 ? " = " : ".", item.path[i].text);
    if (item.kind == ItemKind::Fn) {
      out_ += " (";
      for (const ItemId* id = file_.begin(item.children); id != file_.end(item.children); ++id) {
        if (id != file_.begin(item.children)) out_ += ", ";
        Append("{}: ", file_[*id].name.text);
        TypeText(file_[*id].type);
      }
      out_ += ") ->";
    }
    if (item.type.valid()) {
      if (item.kind != ItemKind::Fn) out_ += item.kind == ItemKind::Alias ? " =" : ":";
      out_ += ' ';
      TypeText(item.type);
    }
    const bool assigns = item.kind == ItemKind::Let || item.kind == ItemKind::Fn || item.kind == ItemKind::Secret ||
                         item.kind == ItemKind::Field || item.kind == ItemKind::Attr;
    if (item.value.valid()) {
      out_ += assigns ? " = " : item.kind == ItemKind::For ? " in " : " ";
      Expression(item.value);
    }
    if (item.value2.valid()) {
      out_ += item.kind == ItemKind::For ? " key " : item.kind == ItemKind::Arm ? " => " : " else ";
      Expression(item.value2);
    }
    if (item.value3.valid()) {
      out_ += " max ";
      Expression(item.value3);
    }
    if (!item.doc.empty()) {
      out_ += "  ## ";
      Quoted(item.doc);
    }
    out_ += '\n';
    if (item.kind != ItemKind::Fn) Items(item.children, sources, level + 1);
  }

  const File& file_;
  bool positions_;
  std::string out_;
};

}  // namespace

std::string DumpAst(const File& file, const SourceManager& sources, bool positions) {
  Dumper dumper(file, positions);
  dumper.Items(file.root, sources, 0);
  return dumper.Take();
}

std::string DumpExpr(const File& file, ExprId id) {
  Dumper dumper(file);
  dumper.Expression(id);
  return dumper.Take();
}

}  // namespace jobc
