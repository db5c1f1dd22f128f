// From Diagnostics to text: for people on a terminal, and for tools as JSON, SARIF 2.1.0 or GitHub annotations.
// Pure functions of the diagnostics and the sources they point into; the driver writes what they return. The
// diagnostics are rendered in the order they have: call Diagnostics::Sort() before.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "compiler/diagnostics/diagnostics.h"
#include "compiler/source/source.h"

namespace jobc {

enum class DiagnosticFormat { Text, Json, Sarif, Github };

struct TextOptions {
  bool color = false;
  /// Terminal columns. Source lines that are longer are cut around what is marked in them.
  int width = 140;
  /// The closing line.
  bool summary = true;
};

/// All diagnostics and the closing line `error: 3 errors, 1 warning`; empty if there are none.
std::string RenderText(const Diagnostics& diags, const SourceManager& sources, const TextOptions& options);

/// `{"schema": "jobc.diagnostics/1", "diagnostics": […], "summary": {…}}`, one line, ended by a line break. Lines and
/// columns are one-based, columns count Unicode scalar values, `offset` is in bytes, ends are exclusive.
std::string RenderJson(const Diagnostics& diags, const SourceManager& sources);

/// A SARIF 2.1.0 log with one run. `tool_version` is jobc's.
std::string RenderSarif(const Diagnostics& diags, const SourceManager& sources, std::string_view tool_version);

/// Workflow commands that GitHub Actions turns into annotations: `::error file=…,line=…,col=…,title=E202::…`.
std::string RenderGithub(const Diagnostics& diags, const SourceManager& sources);

/// `3 errors, 1 warning`; parts that are zero are left out, "no errors" if both are.
std::string CountText(size_t errors, size_t warnings);

/// Where a person should look: line breaks at the end of a span are not marked, and the end of a file that closes with
/// empty lines is shown after its last text.
Span ShownSpan(const SourceManager& sources, Span span);

}  // namespace jobc
