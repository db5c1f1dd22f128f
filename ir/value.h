// Values of expressions: immutable, cheap to copy (shared payloads), without their type: types are static and stand in
// the expression tree. A Json value is made of Null, Bool, Int, Float, String, List and Map<String> values.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "ir/type.h"

namespace jobc::ir {

/// Where the path of a File or Dir starts.
enum class FileBase : uint8_t {
  Source,    ///< the directory of the source that names it, relative to the root source's directory
  Cwd,       ///< the working directory of the command line
  Absolute,  ///< written as an absolute path by the user
  Uri,       ///< gs:// s3:// http(s)://
  Job,       ///< output of an attempt; only while a run lasts. `path` is the name relative to the output directory
  Output,    ///< `output.x` of the job itself: `path` relative to $JOB_OUTPUT
  Text,      ///< text_file() and json_file(): `path` is its name, `text` its content
};

struct FileValue {
  FileBase base = FileBase::Source;
  bool is_dir = false;
  std::string path;             ///< normalised, `/` separators
  uint32_t row = UINT32_MAX;    ///< row in Plan::files when known at plan time
  std::string location;         ///< absolute path on this machine; run time only, never in a plan
  std::string sha256;           ///< of captured outputs; run time only. Of Text always
  uint64_t size = 0;
  std::shared_ptr<const std::string> text;  ///< of Text, never null there
};

class Value;
using ListValue = std::vector<Value>;
/// Sorted by key (Int by value, String by bytes, enum by case index), keys distinct.
using MapValue = std::vector<std::pair<Value, Value>>;

enum class ValueKind : uint8_t { Null, Bool, Int, Float, String, Duration, Bytes, File, Enum, List, Map, Secret, Instance };

/// Struct and Pair values are List values of their fields in declared order. Dir values are File values.
class Value {
 public:
  Value() = default;  ///< null
  static Value Bool(bool value);
  static Value Int(int64_t value);
  static Value Float(double value);
  static Value String(std::string value);
  static Value String(std::shared_ptr<const std::string> value);
  static Value Duration(int64_t milliseconds);
  static Value Bytes(int64_t bytes);
  static Value File(FileValue value);
  static Value Enum(uint32_t case_index);
  static Value List(ListValue elements);
  static Value Map(MapValue sorted_entries);
  /// Sorts, and keeps the last of equal keys.
  static Value MapFrom(MapValue entries);
  static Value Secret(std::string text);
  /// One instance of a job, for comprehensions over `j[*]`.
  static Value Instance(uint32_t job, uint64_t ordinal);

  ValueKind kind() const { return kind_; }
  bool is_null() const { return kind_ == ValueKind::Null; }
  bool as_bool() const;
  int64_t as_int() const;         ///< Int, Duration (ms), Bytes, Enum (case index)
  double as_float() const;        ///< Float, or Int widened
  const std::string& as_string() const;  ///< String, Secret
  const FileValue& as_file() const;
  const ListValue& as_list() const;
  const MapValue& as_map() const;
  uint32_t instance_job() const;
  uint64_t instance_ordinal() const;

  /// Total order within one type: the language's `<` and map key order. Lists and maps compare element by element.
  static int Compare(const Value& x, const Value& y);
  friend bool operator==(const Value& x, const Value& y) { return Compare(x, y) == 0; }
  size_t Hash() const;
  /// In a map value: the value of a String key, or nullptr.
  const Value* Find(std::string_view key) const;

 private:
  ValueKind kind_ = ValueKind::Null;
  uint32_t small_ = 0;
  std::variant<std::monostate, int64_t, double, std::shared_ptr<const std::string>, std::shared_ptr<const FileValue>,
               std::shared_ptr<const ListValue>, std::shared_ptr<const MapValue>>
      payload_;
};

}  // namespace jobc::ir
