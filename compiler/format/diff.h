// Two texts compared line by line, for `jobc fmt --diff`. Pure.
#pragma once

#include <string>
#include <string_view>

namespace jobc {

/// A unified diff (three lines of context) that `patch` understands; empty if the texts are equal. `before_name` and
/// `after_name` stand in its first two lines.
std::string UnifiedDiff(std::string_view before, std::string_view after, std::string_view before_name, std::string_view after_name);

}  // namespace jobc
