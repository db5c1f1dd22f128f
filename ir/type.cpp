#include "ir/type.h"

#include <array>
#include <map>
#include <tuple>

#include "support/check.h"

namespace jobc::ir {
namespace {

constexpr std::array kBasicKinds = {
    TypeKind::Error, TypeKind::Null,     TypeKind::Bool,  TypeKind::Int,  TypeKind::Float,
    TypeKind::String, TypeKind::Duration, TypeKind::Bytes, TypeKind::File, TypeKind::Dir,
    TypeKind::Json,  TypeKind::Secret,   TypeKind::Args,  TypeKind::Regex, TypeKind::Range};

}  // namespace

struct TypeTable::Index {
  std::map<std::tuple<TypeKind, uint32_t, uint32_t, uint32_t, uint32_t>, TypeId> ids;
};

TypeTable::TypeTable() : index_(std::make_shared<Index>()) {
  for (TypeKind kind : kBasicKinds) Intern({.kind = kind});
}

TypeId TypeTable::Intern(TypeNode node) {
  auto key = std::make_tuple(node.kind, node.a.index, node.b.index, node.def, node.refinement.index);
  if (auto it = index_->ids.find(key); it != index_->ids.end()) return it->second;
  // Copies of a table share the index until one of them grows.
  if (index_.use_count() > 1) index_ = std::make_shared<Index>(*index_);
  TypeId id{static_cast<uint32_t>(nodes_.size())};
  node.bare = id;
  nodes_.push_back(node);
  index_->ids.emplace(key, id);
  TypeNode bare = node;
  if (node.a.valid()) bare.a = Bare(node.a);
  if (node.b.valid()) bare.b = Bare(node.b);
  if (bare.a != node.a || bare.b != node.b) {
    TypeId bare_id = Intern(bare);
    nodes_[id.index].bare = bare_id;
  }
  return id;
}

TypeId TypeTable::Basic(TypeKind kind) const {
  for (uint32_t i = 0; i < kBasicKinds.size(); ++i) {
    if (kBasicKinds[i] == kind) return TypeId{i};
  }
  JOBC_UNREACHABLE();
}

TypeId TypeTable::List(TypeId element) { return Intern({.kind = TypeKind::List, .a = element}); }
TypeId TypeTable::Map(TypeId key, TypeId value) { return Intern({.kind = TypeKind::Map, .a = key, .b = value}); }
TypeId TypeTable::Pair(TypeId first, TypeId second) { return Intern({.kind = TypeKind::Pair, .a = first, .b = second}); }

TypeId TypeTable::Optional(TypeId base) {
  if (kind(base) == TypeKind::Optional) return base;
  return Intern({.kind = TypeKind::Optional, .a = base});
}

TypeId TypeTable::Struct(StructId id) { return Intern({.kind = TypeKind::Struct, .def = id.index}); }
TypeId TypeTable::Enum(EnumId id) { return Intern({.kind = TypeKind::Enum, .def = id.index}); }
TypeId TypeTable::Instance(uint32_t job) { return Intern({.kind = TypeKind::Instance, .def = job}); }

TypeId TypeTable::Refined(TypeId base, RefinementId refinement) {
  // The node keeps kind, parts and definition of its base, so that code which only looks at those need not unwrap it.
  TypeNode node = nodes_[base.index];
  TypeId bare = Bare(base);
  node.refinement = refinement;
  node.bare = TypeId{};
  auto key = std::make_tuple(node.kind, base.index, UINT32_MAX - 1, node.def, refinement.index);
  if (auto it = index_->ids.find(key); it != index_->ids.end()) return it->second;
  if (index_.use_count() > 1) index_ = std::make_shared<Index>(*index_);
  TypeId id{static_cast<uint32_t>(nodes_.size())};
  node.base = base;
  node.bare = bare;
  nodes_.push_back(node);
  index_->ids.emplace(key, id);
  return id;
}

StructId TypeTable::AddStruct(StructDef def) {
  structs_.push_back(std::move(def));
  return StructId{static_cast<uint32_t>(structs_.size() - 1)};
}

EnumId TypeTable::AddEnum(EnumDef def) {
  enums_.push_back(std::move(def));
  return EnumId{static_cast<uint32_t>(enums_.size() - 1)};
}

RefinementId TypeTable::AddRefinement(Refinement refinement) {
  refinements_.push_back(std::move(refinement));
  return RefinementId{static_cast<uint32_t>(refinements_.size() - 1)};
}

TypeId TypeTable::NonNull(TypeId id) const {
  const TypeNode& node = nodes_[id.index];
  return node.kind == TypeKind::Optional ? node.a : id;
}

bool TypeTable::HasText(TypeId id) const {
  switch (kind(id)) {
    case TypeKind::Bool: case TypeKind::Int: case TypeKind::Float: case TypeKind::String: case TypeKind::Duration:
    case TypeKind::Bytes: case TypeKind::File: case TypeKind::Dir: case TypeKind::Json: case TypeKind::Enum:
    case TypeKind::Error:
      return true;
    default:
      return false;
  }
}

bool TypeTable::Has(TypeId id, TypeKind one, TypeKind other) const {
  const TypeNode& top = nodes_[id.index];
  if (top.kind == one || top.kind == other) return true;
  if (top.kind != TypeKind::Struct && !top.a.valid() && !top.b.valid()) return false;
  // Structs may be visited once each: they cannot contain themselves in a checked program, but this is asked before.
  std::vector<bool> seen(structs_.size());
  std::vector<TypeId> todo{id};
  while (!todo.empty()) {
    const TypeNode& node = nodes_[todo.back().index];
    todo.pop_back();
    if (node.kind == one || node.kind == other) return true;
    if (node.kind == TypeKind::Struct) {
      if (seen[node.def]) continue;
      seen[node.def] = true;
      for (const Field& field : structs_[node.def].fields) {
        if (field.type.valid()) todo.push_back(field.type);
      }
    }
    if (node.a.valid()) todo.push_back(node.a);
    if (node.b.valid()) todo.push_back(node.b);
  }
  return false;
}

bool TypeTable::HasSecret(TypeId id) const { return Has(id, TypeKind::Secret, TypeKind::Secret); }
bool TypeTable::HasFile(TypeId id) const { return Has(id, TypeKind::File, TypeKind::Dir); }

std::string TypeTable::Show(TypeId id) const {
  if (!id.valid()) return "?";
  const TypeNode& node = nodes_[id.index];
  if (node.refinement.valid()) return Show(node.base) + "(" + refinements_[node.refinement.index].text + ")";
  switch (node.kind) {
    case TypeKind::Error: return "?";
    case TypeKind::Null: return "null";
    case TypeKind::Bool: return "Bool";
    case TypeKind::Int: return "Int";
    case TypeKind::Float: return "Float";
    case TypeKind::String: return "String";
    case TypeKind::Duration: return "Duration";
    case TypeKind::Bytes: return "Bytes";
    case TypeKind::File: return "File";
    case TypeKind::Dir: return "Dir";
    case TypeKind::Json: return "Json";
    case TypeKind::Secret: return "Secret";
    case TypeKind::List: return "List<" + Show(node.a) + ">";
    case TypeKind::Map: return "Map<" + Show(node.a) + ", " + Show(node.b) + ">";
    case TypeKind::Pair: return "Pair<" + Show(node.a) + ", " + Show(node.b) + ">";
    case TypeKind::Struct: return structs_[node.def].name;
    case TypeKind::Enum: return enums_[node.def].name;
    case TypeKind::Optional: return Show(node.a) + "?";
    case TypeKind::Args: return "Args";
    case TypeKind::Regex: return "Regex";
    case TypeKind::Range: return "Range";
    case TypeKind::Instance: return "Instance";
  }
  JOBC_UNREACHABLE();
}

}  // namespace jobc::ir
