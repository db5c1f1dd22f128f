// A run whose process is gone: what of it may go on without jobc, and how its journal is told that somebody ended that. Used by
// `jobc cancel`, and where a new run uses the results of such a run. Whoever writes holds the run's lock.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "runtime/backend.h"
#include "runtime/run_reader.h"
#include "support/result.h"

namespace jobc {

/// An attempt at a place that goes on without jobc, of which no record says that it is gone.
struct OpenAttempt {
  InstanceRef instance;
  std::string address;
  uint32_t number = 1;
  AttemptId id = 0;
  AttemptOrigin origin;        ///< the run that submitted it: this one, or one from which it was taken over
  std::string handle;
  std::string key;             ///< of its instance; empty: not known
  bool started = false;        ///< its program ran
  int64_t intent_ms = 0;       ///< when the run was about to submit it, or to take it over; wall clock
  bool wanted = false;         ///< it is what its instance waits for: the last attempt, without a verdict of its own
};
std::vector<OpenAttempt> OpenAttempts(const RunReader& run);

/// What a cancel of these instances while the process lived would have left in the journal: attempts that are ended, `cancelled` where
/// an instance is not final; with `whole_run` the end of the run. Returns how many instances were cancelled.
Result<uint64_t> RecordCancelled(RunReader& run, const std::function<bool(InstanceRef)>& wanted, bool whole_run, const std::string& who);

/// These attempts are about to be ended; `how` says by whom ("ended by …"). Before anything is done to them, so that what they end with
/// is never taken for their own end, also if nobody comes to say that they are gone. The run is what it was; it is read again.
Result<void> RecordEnding(RunReader& run, const std::vector<OpenAttempt>& ending, const std::string& how);

/// Nothing of these attempts is alive any more. The run is what it was; it is read again.
Result<void> RecordEnded(RunReader& run, const std::vector<OpenAttempt>& ended, const std::string& how);

}  // namespace jobc
