// libFuzzer target: any bytes through the parser and both dumpers. Build with the `fuzz` preset:
//   clang++ -fsanitize=fuzzer,address … tests/fuzz/parse_fuzz.cpp; run with tests/golden/samples as the corpus.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "compiler/ast/dump.h"
#include "compiler/parse/parse.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  jobc::SourceManager sources;
  jobc::Diagnostics diags;
  const jobc::SourceId source = sources.Add("fuzz.job", std::string(reinterpret_cast<const char*>(data), size));
  const jobc::ast::File file = jobc::Parse(source, sources, diags);
  jobc::DumpAst(file, sources);
  jobc::Diagnostics again;
  jobc::DumpParseTree(source, sources, again);
  // A place where the parser recovered is always reported.
  for (const jobc::ast::Item& item : file.items) {
    if (item.kind == jobc::ast::ItemKind::Error && !diags.has_errors()) std::abort();
  }
  for (const jobc::ast::Expr& expr : file.exprs) {
    if (expr.kind == jobc::ast::ExprKind::Error && !diags.has_errors()) std::abort();
  }
  return 0;
}
