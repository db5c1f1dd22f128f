// How a command hands its diagnostics to the person or the tool that reads them.
#pragma once

#include "compiler/diagnostics/diagnostics.h"
#include "compiler/driver/command_line.h"
#include "compiler/driver/terminal.h"
#include "compiler/source/source.h"

namespace jobc {

/// Drops the warnings that comments allow, sorts `diags` and writes them as the command's `--format` (where it has one) asks: text to stderr, the others to
/// stdout. Returns kExitDiagnostics if there is an error, else kExitOk.
int ReportDiagnostics(const Invocation& invocation, Terminal& terminal, const SourceManager& sources, Diagnostics& diags);

}  // namespace jobc
