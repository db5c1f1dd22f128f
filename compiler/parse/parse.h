// Stage 1 and 2: text to parse tree (PEGTL, grammar/), parse tree to AST. Pure: reads only the SourceManager.
#pragma once

#include <string>

#include "compiler/ast/ast.h"
#include "compiler/diagnostics/diagnostics.h"
#include "compiler/source/source.h"

namespace jobc {

/// Parses one source and builds its AST. Always returns a File: after a syntax error parsing goes on at the next item,
/// so all errors of a file are reported (E010, E012, E013). No input makes it fail otherwise, crash or hang.
ast::File Parse(SourceId source, const SourceManager& sources, Diagnostics& diags);

/// The parse tree as indented text, one node a line: kind, `line:column`, and what a leaf covers. Faults go to `diags`.
std::string DumpParseTree(SourceId source, const SourceManager& sources, Diagnostics& diags);

}  // namespace jobc
