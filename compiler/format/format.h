// The one style of `.job` files (docs/format.md): from a source to the same program written in that style. Stands
// beside the chain, above the parse tree: it knows the grammar but no block or attribute by name, so that a file with
// unknown names is formatted too. Pure: reads and writes no files.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "compiler/diagnostics/diagnostics.h"
#include "compiler/source/source.h"

namespace jobc {

/// Columns that code is broken to stay within. Comments, strings and heredocs are never broken.
inline constexpr int kFormatWidth = 100;

/// The source in the one style: LF line ends, no byte order mark, one line break at the end (none for an empty text).
/// nullopt where it has syntax errors, which are then in `diags`; nothing else is reported there.
std::optional<std::string> Format(SourceId source, const SourceManager& sources, Diagnostics& diags);

/// Whether two texts are both free of syntax errors, declare the same (the same syntax tree but for positions), and
/// hold the same comments in the same order. What Format() promises; asked again before a file is overwritten.
bool SameProgram(std::string_view a, std::string_view b);

}  // namespace jobc
