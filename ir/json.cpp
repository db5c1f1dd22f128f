#include "ir/json.h"

#include <fmt/format.h>
#include <llvm/ADT/StringRef.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "ir/dump.h"
#include "ir/file_path.h"
#include "ir/json_parse.h"
#include "support/text_width.h"

namespace jobc::ir {
namespace {

// ---- Parsing ---------------------------------------------------------------------------------------------------------

/// Tells the handler below how far the lexer has read.
class CountingIterator {
 public:
  using difference_type = std::ptrdiff_t;
  using value_type = char;
  using pointer = const char*;
  using reference = const char&;
  using iterator_category = std::input_iterator_tag;

  CountingIterator(const char* at, const char** furthest) : at_(at), furthest_(furthest) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    *furthest_ = ++at_;
    return *this;
  }
  CountingIterator operator++(int) {
    CountingIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const CountingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  const char** furthest_;
};

std::string At(std::string_view text, size_t offset, std::string_view message) {
  offset = std::min(offset, text.size());
  size_t line = 1 + static_cast<size_t>(std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(offset), '\n'));
  size_t start = offset == 0 ? std::string_view::npos : text.rfind('\n', offset - 1);
  size_t column = offset - (start == std::string_view::npos ? 0 : start + 1) + 1;
  return fmt::format("line {}, column {}: {}", line, column, message);
}

/// Builds a Value from the parser's events and adds what RFC 8259 leaves open: no duplicate keys, bounded depth.
class Builder {
 public:
  Builder(std::string_view text, size_t max_depth) : text_(text), max_depth_(max_depth), furthest_(text.data()) {}

  bool null() { return Add(Value()); }
  bool boolean(bool value) { return Add(Value::Bool(value)); }
  bool number_integer(int64_t value) { return Add(Value::Int(value)); }
  bool number_unsigned(uint64_t value) {
    if (value > static_cast<uint64_t>(INT64_MAX)) return Add(Value::Float(static_cast<double>(value)));
    return Add(Value::Int(static_cast<int64_t>(value)));
  }
  bool number_float(double value, const std::string&) {
    if (!std::isfinite(value)) return Fail(Offset(), "a number that is too large for a Float");
    return Add(Value::Float(value));
  }
  bool string(std::string& value) { return Add(Value::String(std::move(value))); }
  bool binary(nlohmann::json::binary_t&) { return Fail(Offset(), "binary data"); }

  bool start_object(size_t) { return Open(true); }
  bool start_array(size_t) { return Open(false); }
  bool key(std::string& name) {
    Frame& frame = stack_.back();
    frame.map.emplace_back(Value::String(std::move(name)), Value());
    frame.offsets.push_back(Offset());
    return true;
  }
  bool end_array() {
    Value list = Value::List(std::move(stack_.back().list));
    stack_.pop_back();
    return Add(std::move(list));
  }
  bool end_object() {
    Frame& frame = stack_.back();
    size_t size = frame.map.size();
    bool sorted = true;
    for (size_t i = 1; i < size && sorted; ++i) sorted = Value::Compare(frame.map[i - 1].first, frame.map[i].first) < 0;
    if (sorted) {
      Value map = Value::Map(std::move(frame.map));
      stack_.pop_back();
      return Add(std::move(map));
    }
    MapValue unsorted = frame.map;
    Value map = Value::MapFrom(std::move(frame.map));
    if (map.as_map().size() != size) {
      std::vector<size_t> order(size);
      for (size_t i = 0; i < size; ++i) order[i] = i;
      std::stable_sort(order.begin(), order.end(), [&](size_t x, size_t y) { return Value::Compare(unsorted[x].first, unsorted[y].first) < 0; });
      size_t first = SIZE_MAX;
      for (size_t i = 1; i < size; ++i) {
        if (unsorted[order[i]].first == unsorted[order[i - 1]].first) first = std::min(first, order[i]);
      }
      return Fail(frame.offsets[first] - 1, fmt::format("the key {} is given twice in one object", JsonQuote(unsorted[first].first.as_string())));
    }
    stack_.pop_back();
    return Add(std::move(map));
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) {
    std::string_view what = error.what();
    if (size_t end = what.find("] "); end != std::string_view::npos) what.remove_prefix(end + 2);
    if (what.substr(0, 20) == "parse error at line ") what.remove_prefix(std::min(what.find(": "), what.size() - 2) + 2);
    if (what.substr(0, 19) == "syntax error while ") what.remove_prefix(19);
    // What the parser read last may end inside a character, or not be UTF-8 at all.
    what = what.substr(0, what.find("; last read: "));
    return Fail(position == 0 ? 0 : position - 1, text_.empty() ? "the text is empty, expected a JSON value" : what);
  }

  const char** furthest() { return &furthest_; }
  std::string& error() { return error_; }
  Value& result() { return result_; }

 private:
  struct Frame {
    bool is_object;
    ListValue list;
    MapValue map;
    std::vector<size_t> offsets;  ///< behind each key
  };

  size_t Offset() const { return static_cast<size_t>(furthest_ - text_.data()); }

  bool Fail(size_t offset, std::string_view message) {
    if (error_.empty()) error_ = At(text_, offset, message);
    return false;
  }

  bool Open(bool is_object) {
    if (stack_.size() >= max_depth_) return Fail(Offset() - 1, fmt::format("nested deeper than {}", max_depth_));
    stack_.push_back({is_object, {}, {}, {}});
    return true;
  }

  bool Add(Value value) {
    if (stack_.empty()) {
      result_ = std::move(value);
    } else if (stack_.back().is_object) {
      stack_.back().map.back().second = std::move(value);
    } else {
      stack_.back().list.push_back(std::move(value));
    }
    return true;
  }

  std::string_view text_;
  size_t max_depth_;
  const char* furthest_;
  std::vector<Frame> stack_;
  Value result_;
  std::string error_;
};

}  // namespace

Result<Value> ParseJsonToDepth(std::string_view text, size_t max_depth) {
  Builder builder(text, max_depth);
  CountingIterator begin(text.data(), builder.furthest());
  const char* unused = nullptr;
  CountingIterator end(text.data() + text.size(), &unused);
  bool ok = nlohmann::json::sax_parse(begin, end, &builder, nlohmann::json::input_format_t::json, /*strict=*/true);
  if (!ok) return Error{builder.error()};
  return std::move(builder.result());
}

Result<Value> ParseJson(std::string_view text) { return ParseJsonToDepth(text, kMaxJsonDepth); }

// ---- Writing ---------------------------------------------------------------------------------------------------------

void AppendJsonQuoted(std::string& out, std::string_view text) {
  out += '"';
  size_t plain = 0;  // start of what can be copied as it is
  for (size_t i = 0; i < text.size();) {
    unsigned char c = static_cast<unsigned char>(text[i]);
    if (c >= 0x20 && c < 0x80 && c != '"' && c != '\\') {
      ++i;
      continue;
    }
    size_t size = 1;
    if (c >= 0x80) {
      Utf8Char decoded = DecodeUtf8(text, i);
      size = decoded.size;
      if (decoded.valid) {
        i += size;
        continue;
      }
    }
    out.append(text, plain, i - plain);
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\b': out += "\\b"; break;
      case '\f': out += "\\f"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default:
        if (c >= 0x80) out += "\uFFFD";
        else fmt::format_to(std::back_inserter(out), "\\u{:04x}", c);
    }
    i += size;
    plain = i;
  }
  out.append(text, plain);
  out += '"';
}

std::string JsonQuote(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 2);
  AppendJsonQuoted(out, text);
  return out;
}

namespace {

void AppendJson(std::string& out, const Value& json, int indent, int level) {
  auto newline = [&](int at) {
    if (indent > 0) {
      out += '\n';
      out.append(static_cast<size_t>(indent * at), ' ');
    }
  };
  switch (json.kind()) {
    case ValueKind::Null: out += "null"; return;
    case ValueKind::Bool: out += json.as_bool() ? "true" : "false"; return;
    case ValueKind::Int: fmt::format_to(std::back_inserter(out), "{}", json.as_int()); return;
    case ValueKind::Float: out += FloatText(json.as_float()); return;
    case ValueKind::String: AppendJsonQuoted(out, json.as_string()); return;
    case ValueKind::List: {
      const ListValue& list = json.as_list();
      out += '[';
      for (size_t i = 0; i < list.size(); ++i) {
        if (i > 0) out += ',';
        newline(level + 1);
        AppendJson(out, list[i], indent, level + 1);
      }
      if (!list.empty()) newline(level);
      out += ']';
      return;
    }
    case ValueKind::Map: {
      const MapValue& map = json.as_map();
      out += '{';
      for (size_t i = 0; i < map.size(); ++i) {
        if (i > 0) out += ',';
        newline(level + 1);
        AppendJson(out, map[i].first, 0, 0);
        out += indent > 0 ? ": " : ":";
        AppendJson(out, map[i].second, indent, level + 1);
      }
      if (!map.empty()) newline(level);
      out += '}';
      return;
    }
    // No part of a Json value; shown so that a mistake elsewhere is visible, except secrets.
    case ValueKind::Duration: AppendJsonQuoted(out, DurationText(json.as_int())); return;
    case ValueKind::Bytes: case ValueKind::Enum: out += std::to_string(json.as_int()); return;
    case ValueKind::File: AppendJsonQuoted(out, json.as_file().path); return;
    case ValueKind::Secret: case ValueKind::Instance: out += "null"; return;
  }
}

bool IsJsonValue(const Value& value, size_t depth_left) {
  switch (value.kind()) {
    case ValueKind::Null: case ValueKind::Bool: case ValueKind::Int: case ValueKind::Float: case ValueKind::String:
      return true;
    case ValueKind::List:
      if (depth_left == 0) return false;
      return std::all_of(value.as_list().begin(), value.as_list().end(), [&](const Value& v) { return IsJsonValue(v, depth_left - 1); });
    case ValueKind::Map:
      if (depth_left == 0) return false;
      return std::all_of(value.as_map().begin(), value.as_map().end(), [&](const auto& entry) {
        return entry.first.kind() == ValueKind::String && IsJsonValue(entry.second, depth_left - 1);
      });
    default:
      return false;
  }
}

/// Typed values to Json values. Error texts do not show the value: it may be large.
class ToJsonConverter {
 public:
  ToJsonConverter(const Program& program, EvalContext& context) : types_(program.types), context_(context) {}

  bool Convert(const Value& value, TypeId type, size_t depth, Value& out) {
    if (depth > kMaxJsonDepth) return Fail(fmt::format("the value is nested deeper than {}", kMaxJsonDepth));
    if (type.index >= types_.size()) return Fail("the value has no type");
    const TypeNode& node = types_[type];
    if (value.kind() == ValueKind::Secret || node.kind == TypeKind::Secret) return Fail("a secret has no JSON form");
    if (value.is_null()) {
      if (node.kind != TypeKind::Optional && node.kind != TypeKind::Null && node.kind != TypeKind::Json) return Mismatch(type);
      out = Value();
      return true;
    }
    switch (node.kind) {
      case TypeKind::Optional:
        return Convert(value, node.a, depth, out);
      case TypeKind::Bool:
        if (value.kind() != ValueKind::Bool) return Mismatch(type);
        out = value;
        return true;
      case TypeKind::Int:
        if (value.kind() != ValueKind::Int) return Mismatch(type);
        out = value;
        return true;
      case TypeKind::Float:
        if (value.kind() != ValueKind::Int && value.kind() != ValueKind::Float) return Mismatch(type);
        out = value;
        return true;
      case TypeKind::String: case TypeKind::Regex:
        if (value.kind() != ValueKind::String) return Mismatch(type);
        out = value;
        return true;
      case TypeKind::Duration:
        if (value.kind() != ValueKind::Duration) return Mismatch(type);
        out = Value::String(DurationText(value.as_int()));
        return true;
      case TypeKind::Bytes:
        if (value.kind() != ValueKind::Bytes) return Mismatch(type);
        out = Value::Int(value.as_int());
        return true;
      case TypeKind::File: case TypeKind::Dir: {
        if (value.kind() != ValueKind::File) return Mismatch(type);
        Fault fault;
        std::string text;
        if (!context_.FileText(value.as_file(), text, fault)) return Fail(fault.message);
        out = Value::String(std::move(text));
        return true;
      }
      case TypeKind::Json:
        if (!IsJsonValue(value, kMaxJsonDepth - depth)) return Fail(fmt::format("a Json value is nested deeper than {}", kMaxJsonDepth));
        out = value;
        return true;
      case TypeKind::Enum: {
        const EnumDef& def = types_[EnumId{node.def}];
        if (value.kind() != ValueKind::Enum || static_cast<uint64_t>(value.as_int()) >= def.cases.size()) return Mismatch(type);
        out = Value::String(def.cases[static_cast<size_t>(value.as_int())]);
        return true;
      }
      case TypeKind::List: case TypeKind::Args: case TypeKind::Range: {
        if (value.kind() != ValueKind::List) return Mismatch(type);
        TypeId element = node.kind == TypeKind::List ? node.a : types_.Basic(node.kind == TypeKind::Args ? TypeKind::String : TypeKind::Int);
        ListValue list(value.as_list().size());
        for (size_t i = 0; i < list.size(); ++i) {
          if (!Convert(value.as_list()[i], element, depth + 1, list[i])) return false;
        }
        out = Value::List(std::move(list));
        return true;
      }
      case TypeKind::Map: {
        if (value.kind() != ValueKind::Map) return Mismatch(type);
        MapValue map;
        map.reserve(value.as_map().size());
        for (const auto& [key, item] : value.as_map()) {
          Value key_json, item_json;
          if (!Convert(key, node.a, depth + 1, key_json) || !Convert(item, node.b, depth + 1, item_json)) return false;
          if (key_json.kind() == ValueKind::Int) key_json = Value::String(std::to_string(key_json.as_int()));
          if (key_json.kind() != ValueKind::String) return Mismatch(type);
          map.emplace_back(std::move(key_json), std::move(item_json));
        }
        out = Value::MapFrom(std::move(map));
        return true;
      }
      case TypeKind::Pair: {
        if (value.kind() != ValueKind::List || value.as_list().size() != 2) return Mismatch(type);
        MapValue map(2);
        map[0].first = first_;
        map[1].first = second_;
        if (!Convert(value.as_list()[0], node.a, depth + 1, map[0].second)) return false;
        if (!Convert(value.as_list()[1], node.b, depth + 1, map[1].second)) return false;
        out = Value::Map(std::move(map));
        return true;
      }
      case TypeKind::Struct: {
        const StructDef& def = types_[StructId{node.def}];
        if (value.kind() != ValueKind::List || value.as_list().size() != def.fields.size()) return Mismatch(type);
        const std::vector<Member>& members = MembersOf(node.def);
        MapValue map;
        map.reserve(members.size());
        for (const Member& member : members) {
          Value item;
          if (!Convert(value.as_list()[member.index], def.fields[member.index].type, depth + 1, item)) return false;
          map.emplace_back(member.key, std::move(item));
        }
        out = Value::Map(std::move(map));
        return true;
      }
      case TypeKind::Null: case TypeKind::Error: case TypeKind::Secret: case TypeKind::Instance:
        return Mismatch(type);
    }
    return Mismatch(type);
  }

  std::string error;

 private:
  struct Member {
    Value key;
    uint32_t index;
  };

  const std::vector<Member>& MembersOf(uint32_t def) {
    auto [it, added] = members_.try_emplace(def);
    if (added) {
      const std::vector<Field>& fields = types_[StructId{def}].fields;
      for (uint32_t i = 0; i < fields.size(); ++i) it->second.push_back({Value::String(fields[i].name), i});
      std::sort(it->second.begin(), it->second.end(), [](const Member& x, const Member& y) { return Value::Compare(x.key, y.key) < 0; });
    }
    return it->second;
  }

  bool Fail(std::string message) {
    error = std::move(message);
    return false;
  }
  bool Mismatch(TypeId type) { return Fail(fmt::format("a {} has no JSON form, or the value is no {}", types_.Show(type), types_.Show(type))); }

  const TypeTable& types_;
  EvalContext& context_;
  const Value first_ = Value::String("first"), second_ = Value::String("second");
  std::unordered_map<uint32_t, std::vector<Member>> members_;
};

}  // namespace

std::string JsonText(const Value& json, int indent) {
  std::string out;
  AppendJson(out, json, indent, 0);
  return out;
}

Result<Value> ToJsonValue(const Value& value, TypeId type, const Program& program, EvalContext& context) {
  ToJsonConverter converter(program, context);
  Value out;
  if (!converter.Convert(value, type, 0, out)) return Error{converter.error};
  return out;
}

Result<std::string> EncodeJson(const Value& value, TypeId type, const Program& program, EvalContext& context) {
  Result<Value> json = ToJsonValue(value, type, program, context);
  if (!json) return json.error();
  return JsonText(*json);
}

// ---- Decoding --------------------------------------------------------------------------------------------------------

namespace {

class Decoder {
 public:
  Decoder(const Program& program, Evaluator& evaluator, EvalContext& context, const DecodeOptions& options)
      : program_(program), types_(program.types), evaluator_(evaluator), context_(context), options_(options) {}

  /// One step of the path to a value; a chain on the call stack, so that it costs nothing without an error.
  struct Path {
    const Path* parent = nullptr;
    std::string_view key;
    size_t index = 0;
    bool is_index = false;
  };

  bool Decode(const Value& json, TypeId type, const Path* path, int depth, Value& out) {
    if (depth > 512) return Fail(path, "the value is nested too deeply");
    if (type.index >= types_.size()) return Fail(path, "this place has no type");
    const TypeNode node = types_[type];
    auto expected = [&] { return Expected(json, type, path); };
    switch (node.kind) {
      case TypeKind::Optional:
        if (json.is_null()) {
          out = Value();
          return true;
        }
        return Decode(json, node.a, path, depth + 1, out);
      case TypeKind::Null:
        if (!json.is_null()) return expected();
        out = Value();
        return true;
      case TypeKind::Bool:
        if (json.kind() != ValueKind::Bool) return expected();
        out = json;
        return true;
      case TypeKind::Int:
        if (json.kind() != ValueKind::Int) return expected();
        out = json;
        return true;
      case TypeKind::Float:
        if (json.kind() != ValueKind::Int && json.kind() != ValueKind::Float) return expected();
        out = Value::Float(json.as_float());
        return true;
      case TypeKind::String:
        if (json.kind() != ValueKind::String) return expected();
        out = json;
        return true;
      case TypeKind::Duration: {
        int64_t milliseconds = 0;
        if (json.kind() != ValueKind::String || !ParseDuration(json.as_string(), milliseconds)) {
          return Fail(path, fmt::format("expected a Duration such as \"90s\" or \"1.5h\", found {}", Found(json)));
        }
        out = Value::Duration(milliseconds);
        return true;
      }
      case TypeKind::Bytes: {
        int64_t bytes = 0;
        if (json.kind() == ValueKind::Int) {
          bytes = json.as_int();
        } else if (json.kind() != ValueKind::String || !ParseBytes(json.as_string(), bytes)) {
          return Fail(path, fmt::format("expected Bytes: a whole number, or a text such as \"4GiB\"; found {}", Found(json)));
        }
        out = Value::Bytes(bytes);
        return true;
      }
      case TypeKind::File: case TypeKind::Dir:
        return DecodeFile(json, type, path, out);
      case TypeKind::Json:
        out = json;
        return true;
      case TypeKind::Enum: {
        const EnumDef& def = types_[EnumId{node.def}];
        if (json.kind() == ValueKind::String) {
          for (size_t i = 0; i < def.cases.size(); ++i) {
            if (def.cases[i] == json.as_string()) {
              out = Value::Enum(static_cast<uint32_t>(i));
              return true;
            }
          }
        }
        return Fail(path, fmt::format("expected {}: one of {}; found {}", def.name, Quoted(def.cases), Found(json)));
      }
      case TypeKind::List: {
        if (json.kind() != ValueKind::List) return expected();
        const ListValue& from = json.as_list();
        ListValue list(from.size());
        for (size_t i = 0; i < from.size(); ++i) {
          Path here{path, {}, i, true};
          if (!Decode(from[i], node.a, &here, depth + 1, list[i])) return false;
        }
        out = Value::List(std::move(list));
        return true;
      }
      case TypeKind::Map: {
        if (json.kind() != ValueKind::Map) return expected();
        MapValue map;
        map.reserve(json.as_map().size());
        for (const auto& [key, item] : json.as_map()) {
          if (key.kind() != ValueKind::String) return expected();
          Path here{path, key.as_string(), 0, false};
          map.emplace_back();
          if (!DecodeKey(key.as_string(), node.a, &here, map.back().first)) return false;
          if (!Decode(item, node.b, &here, depth + 1, map.back().second)) return false;
        }
        out = Value::MapFrom(std::move(map));
        return true;
      }
      case TypeKind::Pair: {
        if (json.kind() != ValueKind::Map) return expected();
        ListValue pair(2);
        constexpr std::string_view kNames[] = {"first", "second"};
        for (size_t i = 0; i < 2; ++i) {
          const Value* item = json.Find(kNames[i]);
          TypeId item_type = i == 0 ? node.a : node.b;
          Path here{path, kNames[i], 0, false};
          if (!item) {
            if (!types_.IsOptional(item_type)) return Fail(path, fmt::format("missing field `{}` of {}", kNames[i], types_.Show(type)));
            continue;
          }
          if (!Decode(*item, item_type, &here, depth + 1, pair[i])) return false;
        }
        for (const auto& [key, item] : json.as_map()) {
          if (key.as_string() == "first" || key.as_string() == "second") continue;
          Path here{path, key.as_string(), 0, false};
          return Fail(&here, fmt::format("unknown field; {} has `first` and `second`", types_.Show(type)));
        }
        out = Value::List(std::move(pair));
        return true;
      }
      case TypeKind::Struct:
        return DecodeStruct(json, type, StructId{node.def}, path, depth, out);
      case TypeKind::Secret:
        return Fail(path, "a Secret cannot come from JSON");
      case TypeKind::Error: case TypeKind::Args: case TypeKind::Regex: case TypeKind::Range: case TypeKind::Instance:
        return Fail(path, fmt::format("a value of type {} cannot come from JSON", types_.Show(type)));
    }
    return expected();
  }

  std::string error;

 private:
  bool DecodeStruct(const Value& json, TypeId type, StructId id, const Path* path, int depth, Value& out) {
    if (json.kind() != ValueKind::Map) return Expected(json, type, path);
    const StructDef& def = types_[id];
    const MapValue& map = json.as_map();
    ListValue fields(def.fields.size());
    size_t used = 0;
    for (size_t i = 0; i < def.fields.size(); ++i) {
      const Field& field = def.fields[i];
      const Value* item = json.Find(field.name);
      if (item) {
        ++used;
        Path here{path, field.name, 0, false};
        if (!Decode(*item, field.type, &here, depth + 1, fields[i])) return false;
      } else if (field.fallback.valid()) {
        Value value;
        if (!evaluator_.Evaluate(field.fallback, context_, value)) {
          return Fail(path, fmt::format("the default of `{}` has no value: {}", field.name, std::string(evaluator_.fault().message)));
        }
        fields[i] = std::move(value);
      } else if (!types_.IsOptional(field.type)) {
        return Fail(path, fmt::format("missing field `{}` of {} (a {})", field.name, def.name, types_.Show(field.type)));
      }
    }
    bool open = def.open || (options_.root_is_open && path == nullptr);
    if (used != map.size() && !open) {
      for (const auto& [key, item] : map) {
        if (key.kind() != ValueKind::String) return Expected(json, type, path);
        const std::string& name = key.as_string();
        bool known = std::any_of(def.fields.begin(), def.fields.end(), [&](const Field& field) { return field.name == name; });
        if (known) continue;
        Path here{path, name, 0, false};
        return Fail(&here, fmt::format("unknown field{} of {}, which is not declared `open struct`", DidYouMean(name, def), def.name));
      }
    }
    out = Value::List(std::move(fields));
    return true;
  }

  static std::string DidYouMean(const std::string& name, const StructDef& def) {
    unsigned best = 3;
    std::string_view found;
    for (const Field& field : def.fields) {
      unsigned distance = llvm::StringRef(field.name).edit_distance(name, true, best);
      if (distance < best) {
        best = distance;
        found = field.name;
      }
    }
    return found.empty() ? std::string() : fmt::format(" (did you mean `{}`?)", found);
  }

  bool DecodeFile(const Value& json, TypeId type, const Path* path, Value& out) {
    bool is_dir = types_.kind(type) == TypeKind::Dir;
    if (json.kind() != ValueKind::String) {
      return Fail(path, fmt::format("expected the path of a {}, found {}", is_dir ? "Dir" : "File", Found(json)));
    }
    FileValue file;
    std::string why;
    if (!MakeFile(json.as_string(), options_.file_base, "", is_dir, file, why)) return Fail(path, why);
    if (file.base == FileBase::Job && LeavesBase(file.path)) {
      return Fail(path, fmt::format("the path {} leaves the job's output directory", JsonQuote(json.as_string())));
    }
    out = Value::File(std::move(file));
    return true;
  }

  bool DecodeKey(const std::string& text, TypeId type, const Path* path, Value& out) {
    const TypeNode& node = types_[type];
    if (node.kind == TypeKind::String) {
      out = Value::String(text);
      return true;
    }
    if (node.kind == TypeKind::Int) {
      int64_t value = 0;
      auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
      if (code != std::errc() || end != text.data() + text.size() || std::to_string(value) != text) {
        return Fail(path, fmt::format("expected a key that is an Int, found {}", JsonQuote(text)));
      }
      out = Value::Int(value);
      return true;
    }
    return Decode(Value::String(text), type, path, 0, out);
  }

  std::string Found(const Value& json) const { return ShowValue(program_, json, types_.Basic(TypeKind::Json), 40); }

  static std::string Quoted(const std::vector<std::string>& names) {
    std::string out;
    for (size_t i = 0; i < names.size() && i < 12; ++i) out += (i > 0 ? ", " : "") + JsonQuote(names[i]);
    if (names.size() > 12) out += ", …";
    return out;
  }

  bool Expected(const Value& json, TypeId type, const Path* path) {
    return Fail(path, fmt::format("expected {}, found {}", types_.Show(types_.Bare(type)), Found(json)));
  }

  bool Fail(const Path* path, std::string message) {
    std::vector<const Path*> steps;
    for (const Path* step = path; step; step = step->parent) steps.push_back(step);
    std::string pointer;
    for (auto it = steps.rbegin(); it != steps.rend(); ++it) {
      pointer += '/';
      if ((*it)->is_index) {
        pointer += std::to_string((*it)->index);
        continue;
      }
      for (char c : (*it)->key) {
        if (c == '~') pointer += "~0";
        else if (c == '/') pointer += "~1";
        else pointer += c;
      }
    }
    error = pointer.empty() ? std::move(message) : VisibleText(pointer) + ": " + message;
    return false;
  }

  const Program& program_;
  const TypeTable& types_;
  Evaluator& evaluator_;
  EvalContext& context_;
  const DecodeOptions& options_;
};

/// A number literal of the language without its sign: `1_000`, `0.05`, `1e6`. Empty if it is none.
std::string PlainNumber(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '_') {
      bool between = i > 0 && i + 1 < text.size() && text[i - 1] >= '0' && text[i - 1] <= '9' && text[i + 1] >= '0' && text[i + 1] <= '9';
      if (!between) return {};
      continue;
    }
    plain += text[i];
  }
  size_t start = !plain.empty() && plain[0] == '-' ? 1 : 0;
  if (start == plain.size() || plain[start] < '0' || plain[start] > '9' || plain.back() < '0' || plain.back() > '9') return {};
  return plain;
}

}  // namespace

Result<Value> DecodeJson(const Value& json, TypeId type, Evaluator& evaluator, EvalContext& context, const DecodeOptions& options) {
  Decoder decoder(evaluator.program(), evaluator, context, options);
  Value out;
  if (!decoder.Decode(json, type, nullptr, 0, out)) return Error{decoder.error};
  if (!evaluator.CheckRefinements(out, type, "", context)) return Error{evaluator.fault().message};
  return out;
}

Result<Value> DecodeParamText(std::string_view text, TypeId type, Evaluator& evaluator, EvalContext& context) {
  const TypeTable& types = evaluator.program().types;
  TypeId plain = types.NonNull(type);
  auto expected = [&](std::string_view what) {
    std::string shown(text.substr(0, 60));
    if (text.size() > 60) shown += "…";
    return Error{fmt::format("expected {}, found {}", what, JsonQuote(shown))};
  };
  Value json;
  switch (types.kind(plain)) {
    case TypeKind::String: case TypeKind::Enum: case TypeKind::File: case TypeKind::Dir: {
      for (size_t i = 0; i < text.size();) {
        Utf8Char c = DecodeUtf8(text, i);
        if (!c.valid) return Error{"the text is not valid UTF-8"};
        i += c.size;
      }
      json = Value::String(std::string(text));
      break;
    }
    case TypeKind::Bool:
      if (text != "true" && text != "false") return expected("Bool: true or false");
      json = Value::Bool(text == "true");
      break;
    case TypeKind::Int: {
      std::string number = PlainNumber(text);
      int64_t value = 0;
      auto [end, code] = std::from_chars(number.data(), number.data() + number.size(), value);
      if (code == std::errc::result_out_of_range) return expected("Int: a whole number of at most 64 bits");
      if (number.empty() || code != std::errc() || end != number.data() + number.size()) return expected("Int: a whole number such as 42");
      json = Value::Int(value);
      break;
    }
    case TypeKind::Float: {
      std::string number = PlainNumber(text);
      double value = 0;
      auto [end, code] = std::from_chars(number.data(), number.data() + number.size(), value);
      if (number.empty() || code != std::errc() || end != number.data() + number.size() || !std::isfinite(value)) {
        return expected("Float: a number such as 0.05 or 1e6");
      }
      json = Value::Float(value);
      break;
    }
    case TypeKind::Duration: {
      int64_t value = 0;
      if (!ParseDuration(text, value)) return expected("Duration: a number with its unit, such as 90s, 1.5h or 250ms");
      json = Value::String(std::string(text));
      break;
    }
    case TypeKind::Bytes: {
      int64_t value = 0;
      if (!ParseBytes(text, value)) return expected("Bytes: a number with its unit, such as 4GiB, 500MB or 12B");
      json = Value::Int(value);
      break;
    }
    case TypeKind::Secret:
      return Error{"a Secret cannot be given as a parameter: declare it with `secret name = env(\"VAR\")`"};
    default: {
      Result<Value> parsed = ParseJson(text);
      if (!parsed) return Error{fmt::format("expected {} as JSON: {}", types.Show(types.Bare(type)), parsed.error().message)};
      json = std::move(*parsed);
    }
  }
  return DecodeJson(json, type, evaluator, context, {.file_base = FileBase::Cwd});
}

}  // namespace jobc::ir
