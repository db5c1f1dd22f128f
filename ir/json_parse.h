// The strict JSON parser with a chosen depth limit; json.h has the public one. Belongs to ir/ only.
#pragma once

#include <string>
#include <string_view>

#include "ir/value.h"
#include "support/result.h"

namespace jobc::ir {

Result<Value> ParseJsonToDepth(std::string_view text, size_t max_depth);

/// Appends what JsonQuote(text) gives.
void AppendJsonQuoted(std::string& out, std::string_view text);

}  // namespace jobc::ir
