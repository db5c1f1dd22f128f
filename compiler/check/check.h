// Stage 3 of 4: ASTs to Model. Resolves imports and names, types expressions, merges templates, defaults and profiles,
// finds cycles. Reads no files but imported sources; knows backends only through the schema of their options.
#pragma once

#include "compiler/check/model.h"
#include "compiler/diagnostics/diagnostics.h"
#include "compiler/source/source.h"

namespace jobc {

/// Parses `root` and everything it imports, and checks all of it under all profiles.
/// Returns a Model also when errors were emitted; Lower() must only be called when `diags.has_errors()` is false.
/// Spans of the Model point into `sources`.
Model Check(SourceId root, SourceManager& sources, Diagnostics& diags);

}  // namespace jobc
