// Stage 2 of the chain: the abstract syntax tree of one file, as BuildAst makes it from the parse tree.
// The tree is generic, as the grammar is: it knows items, blocks, fields and expressions, but not which block or
// attribute names exist; the schema tables of compiler/check do.
// Nodes live in the File's vectors and are referred to by ids; names and texts are views into the source, which must
// outlive the File. Nothing here is ever changed after BuildAst.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "compiler/source/source.h"
#include "support/id.h"

namespace jobc::ast {

struct Expr;
struct Type;
struct Item;
struct Entry;
struct Part;
using ExprId = Id<Expr>;
using TypeId = Id<Type>;
using ItemId = Id<Item>;

struct Name {
  std::string_view text;
  Span span;
  bool valid() const { return span.valid(); }
};

enum class Unit : uint8_t { Duration, Bytes };
enum class UnaryOp : uint8_t { Not, Negate };
enum class BinaryOp : uint8_t { Mul, Div, Mod, Add, Sub, Coalesce, Range, Eq, Ne, Lt, Le, Gt, Ge, In, And, Or };
enum class HeredocTag : uint8_t { Sh, Bash, Py, R, Txt };

enum class ExprKind : uint8_t {
  Error,         ///< a place where the parser recovered; already reported
  Null, True, False,
  Int,           ///< int_value
  Float,         ///< float_value
  Quantity,      ///< int_value in ms or bytes, `unit`
  Regex,         ///< parts[0].text: the pattern, after `\"` became `"`
  String,        ///< parts: text and interpolations
  Heredoc,       ///< parts, dedented; tag
  Name,          ///< name
  Member,        ///< children[0] . name
  OptMember,     ///< children[0] ?. name
  Index,         ///< children[0] [ children[1..] ]; an index may be Star
  Star,          ///< the `*` of `j[*]`
  Call,          ///< callee `name` for plain names (children: entries), else children[0] is the callee expression
  Unary,         ///< unary children[0]
  Binary,        ///< children[0] binary children[1]; a Range inside (…) of a type may miss an end (invalid id)
  If,            ///< if c[0] then c[1] else c[2]
  Match,         ///< match c[0] { entries: key = pattern (invalid id for `_`), value }
  List,          ///< entries: value, possibly `splice`
  ListFor,       ///< [for name (, name2) in c[0] if c[1]? : c[2]]; entries[0] is the element, possibly `splice`
  Map,           ///< entries: key, value. A bare-name key is a String expression of that text
  MapFor,        ///< {for name (, name2) in c[0] if c[1]? : [c[2]] = c[3]}
  Struct,        ///< Name { field = value … }: children[0] the Name/Member path; entries: name, value
  Paren,         ///< ( c[0] ), kept for exact spans and for fmt
  TypeArgument,  ///< an argument that is a type (parse_json(s, List<Int>)); `type`
};

/// One element of a list, call, map, struct or match.
struct Entry {
  Name name;       ///< argument or field name, where there is one
  ExprId key;      ///< maps and match arms
  ExprId value;
  bool splice = false;  ///< `...value`
  Span span;
};

/// A piece of a String or Heredoc: either constant text or `~{expr}` / `~{expr...}`.
struct Part {
  std::string text;     ///< escapes resolved, dedented; empty for interpolations
  ExprId expr;          ///< valid for interpolations
  bool splice = false;  ///< `~{xs...}`
  Span span;            ///< where it stands: of a text part, first to last byte; of an interpolation, with `~{` and `}`
  /// For text parts: maps offsets in `text` to source offsets, one pair (offset in text, offset in source) for each
  /// place where the two stop running in step (line starts after dedent, escapes, CRLF). First pair: offset 0.
  std::vector<std::pair<uint32_t, uint32_t>> positions;
};

struct Expr {
  ExprKind kind = ExprKind::Error;
  UnaryOp unary = UnaryOp::Not;
  BinaryOp binary = BinaryOp::Add;
  HeredocTag tag = HeredocTag::Txt;
  Unit unit = Unit::Duration;
  Span span;                ///< the whole expression
  Span op_span;             ///< operator, member name, brackets of an index
  Name name;                ///< Name, Member, OptMember, Call; loop variable of ListFor/MapFor
  Name name2;               ///< second loop variable
  int64_t int_value = 0;
  double float_value = 0;
  TypeId type;              ///< TypeArgument
  Slice<ExprId> children;   ///< in File::expr_lists; an id may be invalid where the kind says so
  Slice<Entry> entries;     ///< in File::entries
  Slice<Part> parts;        ///< in File::parts
};

struct Type {
  Span span;
  Name module;              ///< `qc` of `qc.Sample`
  Name name;                ///< `List`; empty after a syntax error
  Slice<TypeId> arguments;  ///< in File::type_lists
  ExprId refinement;        ///< in `(…)`, may be invalid
  bool optional = false;    ///< `?`
};

enum class ItemKind : uint8_t {
  Error,
  Import,   ///< import value as name        (value: String expression)
  Let,      ///< let name : type = value
  Fn,       ///< fn name(params: Field items in children) -> type = value
  Secret,   ///< secret name = value
  Enum,     ///< enum name { cases }         (cases: Case items in children)
  Case,     ///< one case of an enum
  Module,   ///< module name = path { children }
  Alias,    ///< type name = type
  Require,  ///< require value else value2
  For,      ///< for name, name2 in value key value2 max value3
  Field,    ///< name : type = value
  Attr,     ///< name = value   (name_expr valid instead of `name` where the name is a string: "vcf/" = …)
  Block,    ///< name labels… { children }   (also `open struct`, where `open` is set)
  Arm,      ///< value => value2
  Edition,  ///< never used by the parser: `edition = 1` is an Attr
};

/// A label of a block: `base` in `template base`, `"n"` in `test "n"`, `uses py.script`, `align["s1"]` in mocks.
struct Label {
  bool is_string = false;
  std::string text;         ///< of a string label
  std::vector<Name> path;   ///< of a path label: `py.script` -> {py, script}
  std::vector<ExprId> index;      ///< `["s1"]` or `("s1")` behind a path
  Span span;
};

struct Item {
  ItemKind kind = ItemKind::Error;
  Span span;                ///< from the first word (without the doc comment) to the last byte
  Span keyword;             ///< first word
  Name name;
  Name name2;
  ExprId name_expr;
  TypeId type;
  ExprId value, value2, value3;
  std::vector<Label> labels;
  std::vector<Name> path;   ///< Module: what is instantiated
  Slice<ItemId> children;   ///< in File::item_lists
  std::string doc;          ///< text of the `##` lines before it, without `##` and one blank, joined by newlines
  bool open = false;        ///< `open struct`
};

/// A comment, kept for fmt, `# jobc: allow(...)` and dangling doc comments.
struct Comment {
  Span span;
  bool is_doc = false;
};

struct File {
  SourceId source;
  std::vector<Expr> exprs;
  std::vector<Type> types;
  std::vector<Item> items;
  std::vector<Entry> entries;
  std::vector<Part> parts;
  std::vector<ExprId> expr_lists;
  std::vector<TypeId> type_lists;
  std::vector<ItemId> item_lists;
  Slice<ItemId> root;
  std::vector<Comment> comments;  ///< in source order
  std::vector<Span> dangling_docs;  ///< doc comments that belong to no item

  const Expr& operator[](ExprId id) const { return exprs[id.index]; }
  const Type& operator[](TypeId id) const { return types[id.index]; }
  const Item& operator[](ItemId id) const { return items[id.index]; }
  /// The i-th child expression (may be invalid where the kind allows it).
  ExprId child(const Expr& e, uint32_t i) const { return i < e.children.size ? expr_lists[e.children.begin + i] : ExprId{}; }
  const ItemId* begin(Slice<ItemId> s) const { return item_lists.data() + s.begin; }
  const ItemId* end(Slice<ItemId> s) const { return item_lists.data() + s.begin + s.size; }
};

}  // namespace jobc::ast
