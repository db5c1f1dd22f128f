// Types of the language, as the checker computes them and the plan stores them. A TypeTable interns types: equal types
// have equal ids within one table. Refinements are not part of a type's identity: a refined type is a node of its own
// with the kind, parts and definition of the type it refines (its `base`), and a `bare` id: the type without any
// refinement, at any depth; compare bare ids to compare types. Refinements of struct fields belong to the StructDef.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "support/id.h"

namespace jobc::ir {

struct TypeNode;
struct Expr;
struct StructDef;
struct EnumDef;
struct Refinement;
using TypeId = Id<TypeNode>;
using ExprId = Id<Expr>;
using StructId = Id<StructDef>;
using EnumId = Id<EnumDef>;
using RefinementId = Id<Refinement>;

enum class TypeKind : uint8_t {
  Error,     ///< already reported; compatible with everything
  Null,      ///< of the literal `null` before it meets a T?
  Bool, Int, Float, String, Duration, Bytes, File, Dir, Json, Secret,
  List,      ///< a
  Map,       ///< a: key (String, Int or enum), b: value
  Pair,      ///< built-in struct Pair<A, B> { first, second }
  Struct,    ///< def: StructId
  Enum,      ///< def: EnumId
  Optional,  ///< a; never nested
  Args,      ///< argv lists: elements with a text form, or splices
  Regex,     ///< not storable
  Range,     ///< Int range; not storable
  Instance,  ///< element of `j[*]` in a comprehension; def: index of the job
};

struct TypeNode {
  TypeKind kind = TypeKind::Error;
  TypeId a, b;
  uint32_t def = UINT32_MAX;
  RefinementId refinement;  ///< valid: values must also satisfy this
  TypeId base;              ///< with `refinement`: the type it refines, which may be refined too
  TypeId bare;              ///< without refinements at any depth; the node itself if it has none
};

struct EnumDef {
  std::string name;
  std::vector<std::string> cases;  ///< at least one, distinct
};

struct Field {
  std::string name;
  TypeId type;      ///< may be refined
  ExprId fallback;  ///< phase C; valid: the field may be missing
  std::string doc;
};

struct StructDef {
  std::string name;
  std::vector<Field> fields;
  bool open = false;  ///< unknown keys are ignored when decoding
};

enum class RefinementKind : uint8_t { IntRange, FloatRange, Pattern, Predicate };

/// What a value must satisfy where it enters a declared place. Ranges are inclusive; a missing end is open.
struct Refinement {
  RefinementKind kind = RefinementKind::Predicate;
  std::optional<int64_t> int_low, int_high;      ///< also Duration (ms) and Bytes
  std::optional<double> float_low, float_high;
  std::string pattern;  ///< RE2, must match the whole text
  ExprId predicate;     ///< Bool over Local 0, which is `it`
  std::string text;     ///< as written, for messages: `1..64`
};

class TypeTable {
 public:
  TypeTable();

  TypeId Basic(TypeKind kind) const;  ///< Error … Secret, Args, Regex, Range
  TypeId List(TypeId element);
  TypeId Map(TypeId key, TypeId value);
  TypeId Pair(TypeId first, TypeId second);
  TypeId Optional(TypeId base);       ///< of an optional: itself
  TypeId Struct(StructId id);
  TypeId Enum(EnumId id);
  TypeId Instance(uint32_t job);
  TypeId Refined(TypeId base, RefinementId refinement);

  StructId AddStruct(StructDef def);
  EnumId AddEnum(EnumDef def);
  RefinementId AddRefinement(Refinement refinement);

  const TypeNode& operator[](TypeId id) const { return nodes_[id.index]; }
  const StructDef& operator[](StructId id) const { return structs_[id.index]; }
  StructDef& MutableStruct(StructId id) { return structs_[id.index]; }
  Refinement& MutableRefinement(RefinementId id) { return refinements_[id.index]; }
  const EnumDef& operator[](EnumId id) const { return enums_[id.index]; }
  const Refinement& operator[](RefinementId id) const { return refinements_[id.index]; }
  const std::vector<StructDef>& structs() const { return structs_; }
  const std::vector<EnumDef>& enums() const { return enums_; }
  const std::vector<Refinement>& refinements() const { return refinements_; }
  size_t size() const { return nodes_.size(); }

  TypeKind kind(TypeId id) const { return nodes_[id.index].kind; }
  TypeId Bare(TypeId id) const { return nodes_[id.index].bare; }
  bool Same(TypeId x, TypeId y) const { return Bare(x) == Bare(y); }
  bool IsOptional(TypeId id) const { return kind(id) == TypeKind::Optional; }
  /// T of T?, else the type itself.
  TypeId NonNull(TypeId id) const;
  /// Has one text form (argv, `~{}`): Bool Int Float String Duration Bytes File Dir Json enum, not optional.
  bool HasText(TypeId id) const;
  /// Contains File or Dir at any depth.
  bool HasFile(TypeId id) const;
  /// Contains Secret at any depth.
  bool HasSecret(TypeId id) const;
  /// As people write it: `List<Sample>`, `Int(1..64)`, `File?`.
  std::string Show(TypeId id) const;

 private:
  TypeId Intern(TypeNode node);
  bool Has(TypeId id, TypeKind one, TypeKind other) const;

  struct Index;
  std::shared_ptr<Index> index_;
  std::vector<TypeNode> nodes_;
  std::vector<StructDef> structs_;
  std::vector<EnumDef> enums_;
  std::vector<Refinement> refinements_;
};

}  // namespace jobc::ir
