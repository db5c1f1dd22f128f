// Values for R: JSON to R's own serialization (R Internals 1.8, "Serialization Formats": XDR, version 2, which every R since
// 1.4 reads with readRDS). R has no JSON in its base packages, and its parser limits escaped literals to 10,000 characters.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "support/result.h"

namespace jobc::script {

/// null -> NULL; Bool -> logical; number -> integer where it fits 32 bits, else double; string -> character (UTF-8);
/// array of one scalar type -> vector of it, empty array -> logical(0), other arrays -> list; object -> named list.
Result<std::string> ToRds(const nlohmann::ordered_json& value);

}  // namespace jobc::script
