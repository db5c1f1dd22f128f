#pragma once
// The parts of lists, pairs, structs and maps, each with its type and what JSON calls it: for all that goes through the values of
// a job, such as the files in them. Pure; owns nothing.
#include <functional>
#include <string>

#include "ir/type.h"
#include "ir/value.h"

namespace jobc {

/// Whether values of this type can hold files or directories. `depth`: of the type within another.
bool HoldsFiles(const ir::TypeTable& types, ir::TypeId type, int depth = 0);

/// Gives each part of `value` to `visit`, in order, and stops at the first false, which it returns. A part's name is its index, `first`
/// or `second`, the field, or the key as it stands in JSON. `type`: that of a list, pair, struct or map; of all else there are no parts.
bool VisitParts(const ir::TypeTable& types, const ir::Value& value, ir::TypeId type,
                const std::function<bool(const ir::Value& part, ir::TypeId type, const std::string& name)>& visit);

/// The same value with the parts that `change` makes: `changed` is empty before. `out` is unchanged when it returns false.
bool MapParts(const ir::TypeTable& types, const ir::Value& value, ir::TypeId type,
              const std::function<bool(const ir::Value& part, ir::TypeId type, const std::string& name, ir::Value& changed)>& change, ir::Value& out);

}  // namespace jobc
