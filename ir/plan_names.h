// The words of `jobc.plan/1` for enumerations, shared by its writer and reader. Belongs to ir/ only.
#pragma once

#include <optional>
#include <string_view>

#include "ir/op_shape.h"
#include "ir/plan.h"

namespace jobc::ir {

inline constexpr size_t kMaxPlanJsonDepth = 1200;

std::string_view TypeKindName(TypeKind kind);  ///< empty for kinds that have parts
std::string_view RefinementKindName(RefinementKind kind);
std::string_view CarrierName(SecretCarrier carrier);
std::string_view BackoffName(Backoff::Kind kind);
std::string_view KeyKindName(KeyKind kind);
std::string_view MappingName(Mapping mapping);
std::string_view AfterName(AfterKind kind);
std::string_view OutputKindName(OutputKind kind);
std::string_view ActionName(ActionKind kind);
std::string_view JobKindName(JobKind kind);
std::string_view HookEventName(HookEvent event);

/// Whether a Call or ReadJson node names a type.
bool HasTypeOperand(const Expr& e);

/// The value of an enumeration whose values are 0 … count-1.
template <typename E, typename Name>
std::optional<E> FromWord(std::string_view word, uint32_t count, Name name) {
  for (uint32_t i = 0; i < count; ++i) {
    if (name(static_cast<E>(i)) == word && !word.empty()) return static_cast<E>(i);
  }
  return std::nullopt;
}

}  // namespace jobc::ir
