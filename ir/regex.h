// Regular expressions of the language: RE2, linear time, UTF-8, compiled once for each pattern.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "support/result.h"

namespace jobc::ir {

/// The largest compiled program of one pattern; above it the pattern is refused.
inline constexpr size_t kMaxRegexProgramBytes = size_t{1} << 20;

/// Whether the language takes this pattern; the error says what is wrong with it.
Result<void> CheckPattern(std::string_view pattern);

}  // namespace jobc::ir
