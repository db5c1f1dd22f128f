#include "compiler/diagnostics/allow.h"

#include <string_view>

namespace jobc {
namespace {

/// Whether `line` holds a comment that allows `code`.
bool Allows(std::string_view line, std::string_view code) {
  constexpr std::string_view kStart = "jobc: allow(";
  for (size_t at = line.find(kStart); at != std::string_view::npos; at = line.find(kStart, at + 1)) {
    // Only as the start of a comment: `#`, blanks, the words.
    const size_t before = line.substr(0, at).find_last_not_of(" \t");
    if (before == std::string_view::npos || line[before] != '#') continue;
    std::string_view codes = line.substr(at + kStart.size());
    codes = codes.substr(0, codes.find(')'));
    for (size_t found = codes.find(code); found != std::string_view::npos; found = codes.find(code, found + 1)) {
      const auto is_part = [&](size_t i) {
        return i < codes.size() && codes[i] != ' ' && codes[i] != ',' && codes[i] != '\t';
      };
      if ((found == 0 || !is_part(found - 1)) && !is_part(found + code.size())) return true;
    }
  }
  return false;
}

bool IsOnlyComment(std::string_view line) {
  const size_t first = line.find_first_not_of(" \t");
  return first != std::string_view::npos && line[first] == '#';
}

}  // namespace

void DropAllowed(Diagnostics& diags, const SourceManager& sources) {
  diags.Filter(
      [](const Diagnostic& each, void* context) {
        const SourceManager& files = *static_cast<const SourceManager*>(context);
        const Span span = each.primary.span;
        if (!span.valid()) return false;
        const uint32_t number = files.Locate(span.source, span.begin).line;
        if (Allows(files.Line(span.source, number), each.kind->code)) return true;
        const std::string_view before = files.Line(span.source, number - 1);
        return IsOnlyComment(before) && Allows(before, each.kind->code);
      },
      const_cast<SourceManager*>(&sources));
}

}  // namespace jobc
