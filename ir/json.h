// JSON texts to values and back: strict decoding into types, canonical encoding. The JSON library stays in json.cpp.
// Canonical form: keys sorted by bytes, no blanks, shortest numbers, `/` not escaped, UTF-8 kept (RFC 8785 where it applies,
// except that 64-bit integers are exact).
#pragma once

#include <string>
#include <string_view>

#include "ir/evaluate.h"
#include "ir/program.h"
#include "support/result.h"

namespace jobc::ir {

inline constexpr size_t kMaxJsonDepth = 256;
inline constexpr size_t kMaxResultBytes = size_t{16} << 20;

/// Strict: one value, no duplicate keys, no NaN, no trailing data, valid UTF-8, depth at most kMaxJsonDepth.
/// The result is a Json value. The error names line and column.
Result<Value> ParseJson(std::string_view text);

struct DecodeOptions {
  FileBase file_base = FileBase::Cwd;  ///< of relative paths found where a File or Dir is expected
  bool root_is_open = false;           ///< ignore unknown keys of the root struct only
};

/// A Json value into `type`, refinements included. The error begins with the JSON pointer: "/rows/3/size: expected Int, found "x"".
Result<Value> DecodeJson(const Value& json, TypeId type, Evaluator& evaluator, EvalContext& context, const DecodeOptions& options = {});
/// The same from the text of a command-line parameter: by literal for scalars, as is for String, enum, File, Dir, else as JSON.
Result<Value> DecodeParamText(std::string_view text, TypeId type, Evaluator& evaluator, EvalContext& context);

/// The one JSON form of a value of `type`, canonical. Files by `context.FileText`. A Secret at any depth is an error.
Result<std::string> EncodeJson(const Value& value, TypeId type, const Program& program, EvalContext& context);
/// The same as a Json value.
Result<Value> ToJsonValue(const Value& value, TypeId type, const Program& program, EvalContext& context);
/// Canonical text of a Json value. `indent` > 0: one member a line for people.
std::string JsonText(const Value& json, int indent = 0);
/// A JSON string literal with its quotes; invalid UTF-8 is replaced by U+FFFD.
std::string JsonQuote(std::string_view text);

}  // namespace jobc::ir
