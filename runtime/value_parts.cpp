#include "runtime/value_parts.h"

#include <algorithm>
#include <utility>

namespace jobc {

using ir::TypeKind;
using ir::Value;

bool HoldsFiles(const ir::TypeTable& types, ir::TypeId type, int depth) {
  const ir::TypeNode& node = types[types.Bare(type)];
  switch (node.kind) {
    case TypeKind::File:
    case TypeKind::Dir: return true;
    case TypeKind::List:
    case TypeKind::Optional: return HoldsFiles(types, node.a, depth + 1);
    case TypeKind::Map: return HoldsFiles(types, node.b, depth + 1);
    case TypeKind::Pair: return HoldsFiles(types, node.a, depth + 1) || HoldsFiles(types, node.b, depth + 1);
    case TypeKind::Struct: {
      // A struct that holds itself: too deep to say.
      const auto& fields = types[ir::StructId{node.def}].fields;
      return depth > 64 || std::any_of(fields.begin(), fields.end(), [&](const ir::Field& field) { return HoldsFiles(types, field.type, depth + 1); });
    }
    default: return false;
  }
}

bool VisitParts(const ir::TypeTable& types, const Value& value, ir::TypeId type,
                const std::function<bool(const Value&, ir::TypeId, const std::string&)>& visit) {
  const ir::TypeNode& node = types[types.Bare(type)];
  switch (node.kind) {
    case TypeKind::List: {
      size_t index = 0;
      for (const Value& part : value.as_list()) {
        if (!visit(part, node.a, std::to_string(index++))) return false;
      }
      return true;
    }
    case TypeKind::Pair: return visit(value.as_list()[0], node.a, "first") && visit(value.as_list()[1], node.b, "second");
    case TypeKind::Struct: {
      size_t index = 0;
      for (const ir::Field& field : types[ir::StructId{node.def}].fields) {
        if (!visit(value.as_list()[index++], field.type, field.name)) return false;
      }
      return true;
    }
    case TypeKind::Map:
      for (const auto& [key, part] : value.as_map()) {
        const bool text = key.kind() == ir::ValueKind::String;
        const bool named = !text && types.kind(types.Bare(node.a)) == TypeKind::Enum;
        if (!visit(part, node.b, text    ? key.as_string()
                                 : named ? types[ir::EnumId{types[types.Bare(node.a)].def}].cases[static_cast<size_t>(key.as_int())]
                                         : std::to_string(key.as_int()))) {
          return false;
        }
      }
      return true;
    default: return true;
  }
}

bool MapParts(const ir::TypeTable& types, const Value& value, ir::TypeId type,
              const std::function<bool(const Value&, ir::TypeId, const std::string&, Value&)>& change, Value& out) {
  const bool map = types.kind(types.Bare(type)) == TypeKind::Map;
  ir::ListValue parts;
  const bool ok = VisitParts(types, value, type, [&](const Value& part, ir::TypeId inner, const std::string& name) {
    return change(part, inner, name, parts.emplace_back());
  });
  if (!ok) return false;
  if (!map) {
    out = Value::List(std::move(parts));
    return true;
  }
  ir::MapValue entries = value.as_map();
  size_t index = 0;
  for (auto& entry : entries) entry.second = std::move(parts[index++]);
  out = Value::Map(std::move(entries));
  return true;
}

}  // namespace jobc
