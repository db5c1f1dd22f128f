#include "ir/plan_names.h"

#include <array>

namespace jobc::ir {
namespace {

template <typename E, size_t N>
std::string_view At(const std::array<std::string_view, N>& names, E value) {
  size_t i = static_cast<size_t>(value);
  return i < N ? names[i] : std::string_view();
}

}  // namespace

std::string_view TypeKindName(TypeKind kind) {
  switch (kind) {
    case TypeKind::Error: return "Error";
    case TypeKind::Null: return "Null";
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
    case TypeKind::Args: return "Args";
    case TypeKind::Regex: return "Regex";
    case TypeKind::Range: return "Range";
    default: return {};
  }
}

std::string_view RefinementKindName(RefinementKind kind) {
  return At(std::array<std::string_view, 4>{"int_range", "float_range", "pattern", "predicate"}, kind);
}
std::string_view CarrierName(SecretCarrier carrier) { return At(std::array<std::string_view, 3>{"env", "file", "store"}, carrier); }
std::string_view BackoffName(Backoff::Kind kind) { return At(std::array<std::string_view, 3>{"constant", "linear", "exponential"}, kind); }
std::string_view KeyKindName(KeyKind kind) { return At(std::array<std::string_view, 5>{"none", "index", "string", "int", "enum"}, kind); }
std::string_view MappingName(Mapping mapping) { return At(std::array<std::string_view, 4>{"single", "same", "expr", "all"}, mapping); }
std::string_view AfterName(AfterKind kind) { return At(std::array<std::string_view, 3>{"succeeded", "done", "failed"}, kind); }
std::string_view OutputKindName(OutputKind kind) { return At(std::array<std::string_view, 4>{"path", "glob", "json", "expr"}, kind); }
std::string_view ActionName(ActionKind kind) { return At(std::array<std::string_view, 4>{"none", "run", "script", "image_args"}, kind); }
std::string_view JobKindName(JobKind kind) { return At(std::array<std::string_view, 4>{"job", "check", "finally", "hook"}, kind); }
std::string_view HookEventName(HookEvent event) {
  return At(std::array<std::string_view, 4>{"start", "success", "failure", "finish"}, event);
}

bool HasTypeOperand(const Expr& e) {
  if (e.op == Op::ReadJson) return true;
  if (e.op != Op::Call) return false;
  Builtin function = static_cast<Builtin>(e.a);
  return function == Builtin::parse_json || function == Builtin::decode;
}

}  // namespace jobc::ir
