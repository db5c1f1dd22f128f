// The texts of `jobc explain CODE`: docs/diagnostics.md, embedded when jobc is built. A section starts with a heading
// `## CODE: title` and reaches to the next one.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

namespace jobc {

struct ExplainText {
  std::string_view code;   ///< `E202`
  std::string_view title;
  std::string_view text;   ///< the whole section with its heading, ended by one line break
};

/// In the order of the document.
std::vector<ExplainText> ExplainTexts();

class Invocation;
class Terminal;
/// `explain run|skip|value`; nothing if the first argument is none of these words.
std::optional<int> ExplainOfRun(const Invocation& invocation, Terminal& terminal);

}  // namespace jobc
