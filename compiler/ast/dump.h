// The AST as text, for `jobc plan --stop-after=ast --dump` and the golden tests. Stable: no addresses, no ids.
#pragma once

#include <string>

#include "compiler/ast/ast.h"
#include "compiler/source/source.h"

namespace jobc {

/// One line an item, two blanks deeper for each level; expressions as S-expressions behind the item they belong to.
/// Without `positions` two texts that declare the same give the same dump.
std::string DumpAst(const ast::File& file, const SourceManager& sources, bool positions = true);

/// One expression as DumpAst writes it, for tests.
std::string DumpExpr(const ast::File& file, ast::ExprId id);

}  // namespace jobc
