// Where the directories of an attempt in a container lie: below the run's directory, named by the attempt alone, so that a
// later jobc finds those of a container that has outlived its own. Used by the container backends.
#pragma once

#include <optional>
#include <string>

#include "runtime/backend.h"
#include "support/result.h"

namespace jobc::container {

/// `<run_dir>/attempts/<id>`; everything of the attempt but secrets lies below it.
std::string AttemptDir(const std::string& run_dir, AttemptId id);

/// Makes `out` and `tmp` there, empty; `stage` is made by who needs it. Without `secrets_dir`.
Result<AttemptPlaces> MakePlaces(const std::string& run_dir, AttemptId id);

/// What MakePlaces() gave an earlier process; nothing if it is not there any more.
std::optional<AttemptPlaces> FindPlaces(const std::string& run_dir, AttemptId id);

}  // namespace jobc::container
