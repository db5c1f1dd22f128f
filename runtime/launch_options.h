// Options of an attempt's backend by name, for backends and for what is written about them. Borrowed from the launch.
#pragma once

#include <string>
#include <string_view>

#include "runtime/backend.h"

namespace jobc {

/// Null where it was not given.
inline const ir::Value* Option(const AttemptLaunch& launch, std::string_view name) {
  for (const auto& [key, value] : launch.options) {
    if (key == name) return &value;
  }
  return nullptr;
}

/// Empty where it was not given, or is no String.
inline std::string TextOption(const AttemptLaunch& launch, std::string_view name) {
  const ir::Value* value = Option(launch, name);
  return value != nullptr && value->kind() == ir::ValueKind::String ? value->as_string() : std::string();
}

}  // namespace jobc
