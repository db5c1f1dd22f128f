// How a command hands its diagnostics to the person or the tool that reads them.
#pragma once

#include "compiler/diagnostics/diagnostics.h"
#include "compiler/driver/command_line.h"
#include "compiler/driver/terminal.h"
#include "compiler/source/source.h"

namespace jobc {

/// Drops the warnings that comments allow, sorts `diags` and writes them as the command's `--format` (where it has one) asks: text to stderr, the others to
/// stdout. Returns kExitDiagnostics if there is an error, else kExitOk. `output_follows`: the command goes on and prints
/// its own data where there is no error, so warnings then go to stderr in every format.
int ReportDiagnostics(const Invocation& invocation, Terminal& terminal, const SourceManager& sources, Diagnostics& diags,
                      bool output_follows = false);

}  // namespace jobc
