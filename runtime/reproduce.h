// How a person runs a failed attempt in a container again by hand: a shell script, since the command itself is too long to be read or
// pasted. The engine writes it beside the logs and reports name it. Pure: no I/O.
#pragma once

#include <string>

#include "ir/plan.h"
#include "runtime/backend.h"
#include "runtime/masking.h"

namespace jobc {

/// A script for /bin/sh that starts the image of the attempt with its environment, mounts, limits and command, at the engine where it
/// ran; words behind its name run instead of the command (`sh FILE sh`). Values of secrets are taken from the variables of
/// these names, and it says which are missing. Empty: `launch` runs in no image, or nothing helps.
std::string ReproduceScript(const AttemptLaunch& launch, const ir::Job& job, const ir::TypeTable& types, const Masker& masker);

}  // namespace jobc
