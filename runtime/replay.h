// The events of a run from its journal: what `run --json` said of each record, for watchers that come later, were too slow,
// or look at a run that has ended. What is not journaled (queued, kill_sent, phase) only live watchers are told.
#pragma once

#include <optional>

#include "runtime/events.h"
#include "runtime/journal.h"
#include "runtime/run_reader.h"

namespace jobc {

/// The event of a record that `run` has just taken in (RunReader::Refresh); nothing for records that are for resume only.
std::optional<RunEvent> EventOf(const RunReader& run, const Record& record);

/// What is known about an instance that failed, for people.
FailureReport ReportOf(const RunReader& run, InstanceRef instance);

}  // namespace jobc
