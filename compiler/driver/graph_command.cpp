#include "compiler/driver/compile.h"
#include "compiler/driver/plan_text.h"
#include "support/exit_code.h"

namespace jobc {

int RunGraph(const Invocation& invocation, Terminal& terminal) {
  Compiled compiled = CompileFile(invocation.arguments().front(), invocation, terminal);
  if (!compiled.plan) return compiled.exit_code;
  terminal.Out(GraphText(*compiled.plan, invocation.json() ? "json" : invocation.ValueOr("--as", "dot")));
  return kExitOk;
}

}  // namespace jobc
