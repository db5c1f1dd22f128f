// The signatures of the built-in functions as data, parsed from builtins.def: the checker resolves calls by them, the
// docs and the editors show them. Immutable after the first use; owns nothing of a Program.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ir/expr.h"
#include "ir/type.h"

namespace jobc::ir {

/// What a type variable of a signature may stand for.
enum class Constraint : uint8_t {
  Any,
  Text,  ///< TypeTable::HasText
  Num,   ///< Int, Float, Duration, Bytes
  Ord,   ///< Num, String, enum, Bool
};

/// A type as it stands in a signature.
struct SigType {
  enum class Kind : uint8_t {
    Basic,     ///< `basic`
    Var,       ///< `var`: T, U, K, V, Num, Ord are the same type wherever they stand; each Text is one of its own
    List,      ///< args[0]
    Map,       ///< args[0], args[1]
    Pair,      ///< args[0], args[1]
    Optional,  ///< args[0]
    Type,      ///< an argument that is parsed as a type; it binds the variable T of the result
  } kind = Kind::Basic;
  TypeKind basic = TypeKind::Error;
  uint8_t var = 0;  ///< index below Signature::variables
  std::vector<SigType> args;
};

struct SigVariable {
  std::string name;  ///< T, U, K, V, Text, Num, Ord
  Constraint constraint = Constraint::Any;
};

struct Signature {
  std::vector<SigVariable> variables;
  std::vector<SigType> params;
  bool variadic = false;  ///< the last parameter takes one or more arguments; Text ones may differ in type
  SigType result;
  std::string text;       ///< as in builtins.def: `(List<T>) -> Int`
};

struct BuiltinInfo {
  std::string_view name;
  std::string_view doc;
  std::vector<Signature> signatures;  ///< tried in order
};

inline constexpr size_t kBuiltinCount =
#define BUILTIN(name, ...) +1
#include "ir/builtins.def"
#undef BUILTIN
    ;

const BuiltinInfo& InfoOf(Builtin builtin);
std::optional<Builtin> BuiltinFromName(std::string_view name);
bool Satisfies(const TypeTable& types, TypeId type, Constraint constraint);

/// How a call fits one signature. Refinements are ignored (pass and get bare types where it matters).
struct SignatureMatch {
  const Signature* signature = nullptr;  ///< nullptr: no signature fits
  TypeId result;
  /// One for each argument: valid where an Int must be widened or a null, [] or {} must be given this type.
  std::vector<TypeId> expected;
};

/// The first signature that takes these arguments. A `Type` argument is given as the type it names, with its position
/// in `type_argument` (-1: none). Args of TypeKind::Error fit everything; List<Error> and Map<Error, …> are those of
/// empty literals. Exact fits are preferred to ones that widen an Int to Float.
SignatureMatch ResolveCall(TypeTable& types, Builtin builtin, const std::vector<TypeId>& args, int type_argument = -1);

}  // namespace jobc::ir
