#include "compiler/check/declarations.h"
namespace jobc::check {
void CheckTests(Checker&) {}
}  // namespace jobc::check
