// Warnings that a comment in the source silences: `# jobc: allow(W011)`, or several codes with commas between them, at
// the end of the line that the warning points at, or alone on the line before it. Errors cannot be silenced.
#pragma once

#include "compiler/diagnostics/diagnostics.h"
#include "compiler/source/source.h"

namespace jobc {

/// Removes the warnings whose primary span is on a line that allows their code.
void DropAllowed(Diagnostics& diags, const SourceManager& sources);

}  // namespace jobc
