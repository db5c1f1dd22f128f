// How a person runs a failed attempt again by hand: a shell script, since the command itself with its whole environment is too long to
// be read or pasted. The engine writes it beside the logs and reports name it. Pure: no I/O.
#pragma once

#include <string>

#include "ir/plan.h"
#include "runtime/backend.h"
#include "runtime/masking.h"

namespace jobc {

/// A script for /bin/sh. Of an attempt in an image: starts that with its environment, mounts, limits and command, at the engine where it
/// ran. Of one that sees this machine: runs its command with its environment and no other, in new empty directories instead of its
/// own, which hold what it left; inputs and scripts are those of the attempt. Words behind its name run instead of the command (`sh FILE sh`). Values of secrets are taken from the variables of
/// these names, and it says which are missing. Empty: nothing helps.
std::string ReproduceScript(const AttemptLaunch& launch, const ir::Job& job, const ir::TypeTable& types, const Masker& masker);

}  // namespace jobc
