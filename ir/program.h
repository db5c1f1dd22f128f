// What expressions refer to by index: parameters, constants, functions, secrets. Shared by the checked model (where
// parameter values are not known yet) and the plan (where they are).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ir/expr.h"
#include "ir/type.h"

namespace jobc::ir {

struct Param {
  std::string name;     ///< of the root file's `params`
  TypeId type;          ///< may be refined
  ExprId fallback;      ///< valid: not required. Phase C or over earlier params
  std::optional<Value> value;  ///< set at plan time
  std::string origin;   ///< "default", "-p", "JOB_PARAM_day", "params.json"
  std::string doc;
};

/// `let`, module arguments and other expressions with a name: evaluated at most once where they are of phase C or P.
struct Let {
  std::string name;     ///< "q/limit" inside module q
  ExprId value;
  bool memo = true;     ///< false: phase S, evaluated in the context of the use
};

struct Fn {
  std::string name;
  uint32_t params = 0;  ///< Locals 0 … params-1
  uint32_t locals = 0;  ///< size of the frame
  ExprId body;
};

enum class SecretCarrier : uint8_t { Env, File, Store };

struct Secret {
  std::string name;
  SecretCarrier carrier = SecretCarrier::Env;
  std::string source;   ///< variable, path or store reference
};

struct Program {
  TypeTable types;
  ExprPool exprs;
  std::vector<Param> params;
  std::vector<Let> lets;
  std::vector<Fn> fns;
  std::vector<Secret> secrets;
};

}  // namespace jobc::ir
