// Applying the helps of diagnostics that a tool may apply as they stand. Pure: texts in, texts out; `jobc fix` reads and
// writes the files, editors can do the same with one help.
#pragma once

#include <string>
#include <vector>

#include "compiler/diagnostics/diagnostics.h"
#include "compiler/source/source.h"

namespace jobc {

/// `text` with `edits` done, which must lie inside it and must not overlap. False (and `text` unchanged) where they do.
bool ApplyEdits(std::string& text, std::vector<Edit> edits);

/// The help to apply without asking: the only one of the diagnostic with edits, and no guess (`did you mean …`). Or nullptr.
const Help* CertainHelp(const Diagnostic& diagnostic);

/// One help that was applied. The place is that of the text as it was in its round.
struct AppliedFix {
  LineColumn at;
  std::string code;
  std::string help;
};

struct FixedText {
  std::string text;
  std::vector<AppliedFix> fixes;
  size_t errors_left = 0;
  size_t warnings_left = 0;
};

/// Applies all certain helps inside the file, in rounds, as long as each makes the file better: a fix after which it does not
/// parse, or has more errors than before, is left out. `directory`: where its relative imports start.
FixedText FixText(const std::string& name, const std::string& directory, std::string text);

}  // namespace jobc
