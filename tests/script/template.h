// For the tests of script lowering: templates written as in a .job file.
#pragma once

#include <string>
#include <string_view>

#include "compiler/script/script.h"

namespace jobc::script {

/// `~{name}` becomes a hole; the first letter of the name gives its kind: n Number, l List, m Map, s Struct, j Json,
/// f File, o Text that is optional, everything else Text. `~{name...}` is spliced.
inline Template Parse(Interpreter interpreter, std::string_view text) {
  Template result;
  result.interpreter = interpreter;
  for (size_t i = 0; i < text.size(); ++i) {
    size_t end = text.find('}', i);
    if (text.substr(i, 2) != "~{" || end == std::string_view::npos) {
      result.text += text[i];
      continue;
    }
    std::string source(text.substr(i + 2, end - i - 2));
    Hole hole;
    if (source.size() > 3 && source.substr(source.size() - 3) == "...") {
      hole.spliced = true;
      source.resize(source.size() - 3);
    }
    switch (source.empty() ? 't' : source[0]) {
      case 'n': hole.kind = HoleKind::Number; break;
      case 'l': hole.kind = HoleKind::List; break;
      case 'm': hole.kind = HoleKind::Map; break;
      case 's': hole.kind = HoleKind::Struct; break;
      case 'j': hole.kind = HoleKind::Json; break;
      case 'f': hole.kind = HoleKind::File; break;
      case 'o': hole.optional = true; break;
      default: break;
    }
    hole.offset = static_cast<uint32_t>(result.text.size());
    hole.source = source;
    result.holes.push_back(std::move(hole));
    i = end;
  }
  return result;
}

}  // namespace jobc::script
