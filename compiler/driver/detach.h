// `--detach`: the run goes on without the terminal. The process splits before it does anything else; one half executes the
// run and leaves the terminal once the run is there, the other waits for that, says the run's id and ends.
#pragma once

#include <optional>
#include <string>

#include "compiler/driver/terminal.h"
#include "runtime/process/os.h"
#include "support/result.h"

namespace jobc {

class Detach {
 public:
  /// Forks; this process must have one thread. In the half that stays with the terminal: its exit code, when the other half has
  /// left or failed. In the other half: nothing.
  std::optional<int> Split(bool json, Terminal& terminal);
  /// In the half that executes the run: becomes a session of its own; stdout and stderr go to `console.log` in the run's
  /// directory from now on.
  Result<void> Leave(const std::string& run_id, const std::string& run_dir, Terminal& terminal);

 private:
  process::UniqueFd told_;
};

}  // namespace jobc
