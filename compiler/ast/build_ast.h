// Stage 2 of the chain: parse tree to AST. Pure; one pass over the tree without recursion.
#pragma once

#include "compiler/ast/ast.h"
#include "compiler/diagnostics/diagnostics.h"
#include "compiler/parse/parse_tree.h"
#include "compiler/source/source.h"

namespace jobc {

/// Expressions deeper than this are E013: later stages may recurse over them.
inline constexpr unsigned kMaxExprDepth = 1024;

/// Reports what the grammar does not see: malformed numbers, unknown escapes and tags, half-open ranges in the wrong
/// place, chains of operators that do not associate. `tree` is the parse of `source`; takes its comments.
ast::File BuildAst(ParseTree tree, const SourceManager& sources, Diagnostics& diags);

}  // namespace jobc
