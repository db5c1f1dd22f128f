// A little of the disk that a run keeps for its own end: the file `reserve` in the run's directory. When the disk is full and
// the journal or the log can no longer be written, the engine gives it back and writes into its room why the run ended, so
// that `status`, `list` and `watch` can say so. Made before anything of the run is begun, removed with its end; a run whose
// process was killed leaves it behind for the next one. Owned by whoever holds the run's lock.
#pragma once

#include <cstdint>
#include <string>

#include "support/result.h"

namespace jobc {

/// Room for one commit of a few pages, for the index of the write-ahead log that readers need, and for the last lines of a
/// `console.log`. Bytes.
inline constexpr int64_t kReserveBytes = 128 * 1024;

/// Makes the file, or sees that it is whole. Fails only where the disk or the quota is full already, with that errno value as
/// the code, and leaves nothing then. Where the filesystem cannot keep room for a file there is none, and no failure.
Result<void> KeepReserve(const std::string& run_dir);
/// Gives the room back; there need not be any.
void FreeReserve(const std::string& run_dir);

}  // namespace jobc
