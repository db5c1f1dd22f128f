#include "compiler/script/rds.h"

#include <bit>
#include <cstdint>
#include <nlohmann/json.hpp>

namespace jobc::script {
namespace {

using Json = nlohmann::ordered_json;

// R Internals 1.1, 1.8: SEXPTYPE in the low byte, flags above it.
constexpr uint32_t kSymbol = 1, kPairList = 2, kString = 9, kLogical = 10, kInteger = 13, kReal = 14, kCharacter = 16, kList = 19,
                   kNull = 254;
constexpr uint32_t kHasAttributes = 1u << 9, kHasTag = 1u << 10;
constexpr uint32_t kUtf8 = (1u << 3) << 12, kAscii = (1u << 6) << 12;
constexpr int kMaxDepth = 256;

class Writer {
 public:
  std::string out = "X\n";
  std::string error;

  void Int(uint32_t value) {
    for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift);
  }
  void Double(double value) {
    auto bits = std::bit_cast<uint64_t>(value);
    Int(static_cast<uint32_t>(bits >> 32));
    Int(static_cast<uint32_t>(bits));
  }
  void Text(const std::string& text) {
    bool ascii = true;
    for (char c : text) {
      ascii &= static_cast<unsigned char>(c) < 0x80;
      if (c == '\0') error = "a text for R holds a NUL character, which R cannot hold";
    }
    Int(kString | (ascii ? kAscii : kUtf8));
    Int(static_cast<uint32_t>(text.size()));
    out += text;
  }
  void Length(size_t size) { Int(static_cast<uint32_t>(size)); }

  static bool FitsInteger(const Json& value) {
    if (value.is_number_unsigned()) return value.get<uint64_t>() <= INT32_MAX;
    return value.is_number_integer() && value.get<int64_t>() > INT32_MIN && value.get<int64_t>() <= INT32_MAX;  // INT_MIN is NA
  }

  void Value(const Json& value, int depth) {
    if (depth > kMaxDepth) {
      error = "a value for R is nested more than 256 levels deep";
      return;
    }
    if (value.is_null()) {
      Int(kNull);
    } else if (value.is_array()) {
      Array(value, depth);
    } else if (value.is_object()) {
      Int(kList | kHasAttributes);
      Length(value.size());
      for (const auto& [key, element] : value.items()) Value(element, depth + 1);
      Int(kPairList | kHasTag);
      Int(kSymbol);
      Text("names");
      Int(kCharacter);
      Length(value.size());
      for (const auto& [key, element] : value.items()) Text(key);
      Int(kNull);
    } else {
      Scalars({&value, 1});
    }
  }

 private:
  struct Span {
    const Json* data;
    size_t size;
  };

  /// `values` are all of one scalar type.
  void Scalars(Span values) {
    const Json* end = values.data + values.size;
    if (values.size == 0 || values.data->is_boolean()) {
      Int(kLogical);
      Length(values.size);
      for (const Json* v = values.data; v != end; ++v) Int(v->get<bool>());
    } else if (values.data->is_string()) {
      Int(kCharacter);
      Length(values.size);
      for (const Json* v = values.data; v != end; ++v) Text(v->get_ref<const std::string&>());
    } else {
      bool integers = true;
      for (const Json* v = values.data; v != end; ++v) integers &= FitsInteger(*v);
      Int(integers ? kInteger : kReal);
      Length(values.size);
      for (const Json* v = values.data; v != end; ++v) {
        if (integers) {
          Int(static_cast<uint32_t>(v->get<int64_t>()));
        } else {
          Double(v->get<double>());
        }
      }
    }
  }

  void Array(const Json& value, int depth) {
    bool strings = true, numbers = true, booleans = true;
    for (const Json& element : value) {
      strings &= element.is_string();
      numbers &= element.is_number();
      booleans &= element.is_boolean();
    }
    if (strings || numbers || booleans) {
      Scalars({value.empty() ? nullptr : &value[0], value.size()});
      return;
    }
    Int(kList);
    Length(value.size());
    for (const Json& element : value) Value(element, depth + 1);
  }
};

}  // namespace

Result<std::string> ToRds(const Json& value) {
  Writer writer;
  writer.Int(2);           // format
  writer.Int(0x00020600);  // written as by R 2.6.0
  writer.Int(0x00020300);  // readable since 2.3.0
  if (value.is_array()) {  // `.job` itself is always a list, so that `.job[[1]]` is the first value
    writer.Int(19);
    writer.Length(value.size());
    for (const Json& element : value) writer.Value(element, 1);
  } else {
    writer.Value(value, 0);
  }
  if (!writer.error.empty()) return Error{writer.error};
  return std::move(writer.out);
}

}  // namespace jobc::script
