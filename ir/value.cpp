#include "ir/value.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "support/check.h"

namespace jobc::ir {
namespace {

using StringPtr = std::shared_ptr<const std::string>;
using FilePtr = std::shared_ptr<const FileValue>;
using ListPtr = std::shared_ptr<const ListValue>;
using MapPtr = std::shared_ptr<const MapValue>;

template <typename T>
int Order(const T& x, const T& y) {
  return x < y ? -1 : y < x ? 1 : 0;
}

/// Exact order of an Int and a Float (finite), without rounding the Int.
int CompareMixed(int64_t x, double y) {
  if (y >= 9223372036854775808.0) return -1;
  if (y < -9223372036854775808.0) return 1;
  double whole = std::floor(y);
  int64_t low = static_cast<int64_t>(whole);
  if (x != low) return x < low ? -1 : 1;
  return y > whole ? -1 : 0;
}

size_t Mix(size_t hash, size_t next) {
  hash ^= next + 0x9e3779b97f4a7c15ull + (hash << 6) + (hash >> 2);
  return hash;
}

size_t MixInt(uint64_t x) {
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdull;
  x ^= x >> 33;
  x *= 0xc4ceb9fe1a85ec53ull;
  return x ^ (x >> 33);
}

}  // namespace

Value Value::Bool(bool value) {
  Value v;
  v.kind_ = ValueKind::Bool;
  v.small_ = value;
  return v;
}

Value Value::Int(int64_t value) {
  Value v;
  v.kind_ = ValueKind::Int;
  v.payload_.emplace<int64_t>(value);
  return v;
}

Value Value::Float(double value) {
  Value v;
  v.kind_ = ValueKind::Float;
  v.payload_.emplace<double>(value);
  return v;
}

Value Value::String(std::string value) { return String(std::make_shared<const std::string>(std::move(value))); }

Value Value::String(std::shared_ptr<const std::string> value) {
  Value v;
  v.kind_ = ValueKind::String;
  v.payload_ = std::move(value);
  return v;
}

Value Value::Duration(int64_t milliseconds) {
  Value v = Int(milliseconds);
  v.kind_ = ValueKind::Duration;
  return v;
}

Value Value::Bytes(int64_t bytes) {
  Value v = Int(bytes);
  v.kind_ = ValueKind::Bytes;
  return v;
}

Value Value::File(FileValue value) {
  Value v;
  v.kind_ = ValueKind::File;
  v.payload_ = std::make_shared<const FileValue>(std::move(value));
  return v;
}

Value Value::Enum(uint32_t case_index) {
  Value v;
  v.kind_ = ValueKind::Enum;
  v.small_ = case_index;
  return v;
}

Value Value::List(ListValue elements) {
  Value v;
  v.kind_ = ValueKind::List;
  v.payload_ = std::make_shared<const ListValue>(std::move(elements));
  return v;
}

Value Value::Map(MapValue sorted_entries) {
  Value v;
  v.kind_ = ValueKind::Map;
  v.payload_ = std::make_shared<const MapValue>(std::move(sorted_entries));
  return v;
}

Value Value::MapFrom(MapValue entries) {
  auto before = [](const auto& x, const auto& y) { return Compare(x.first, y.first) < 0; };
  if (!std::is_sorted(entries.begin(), entries.end(), before)) {
    std::stable_sort(entries.begin(), entries.end(), before);
  }
  size_t kept = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    bool last = i + 1 == entries.size() || Compare(entries[i].first, entries[i + 1].first) != 0;
    if (!last) continue;
    if (kept != i) entries[kept] = std::move(entries[i]);
    ++kept;
  }
  entries.resize(kept);
  return Map(std::move(entries));
}

Value Value::Secret(std::string text) {
  Value v = String(std::move(text));
  v.kind_ = ValueKind::Secret;
  return v;
}

Value Value::Instance(uint32_t job, uint64_t ordinal) {
  Value v = Int(static_cast<int64_t>(ordinal));
  v.kind_ = ValueKind::Instance;
  v.small_ = job;
  return v;
}

bool Value::as_bool() const {
  JOBC_CHECK(kind_ == ValueKind::Bool);
  return small_ != 0;
}

int64_t Value::as_int() const {
  if (kind_ == ValueKind::Enum) return small_;
  JOBC_CHECK(kind_ == ValueKind::Int || kind_ == ValueKind::Duration || kind_ == ValueKind::Bytes);
  return *std::get_if<int64_t>(&payload_);
}

double Value::as_float() const {
  if (kind_ == ValueKind::Int) return static_cast<double>(*std::get_if<int64_t>(&payload_));
  JOBC_CHECK(kind_ == ValueKind::Float);
  return *std::get_if<double>(&payload_);
}

const std::string& Value::as_string() const {
  JOBC_CHECK(kind_ == ValueKind::String || kind_ == ValueKind::Secret);
  return **std::get_if<StringPtr>(&payload_);
}

const FileValue& Value::as_file() const {
  JOBC_CHECK(kind_ == ValueKind::File);
  return **std::get_if<FilePtr>(&payload_);
}

const ListValue& Value::as_list() const {
  JOBC_CHECK(kind_ == ValueKind::List);
  return **std::get_if<ListPtr>(&payload_);
}

const MapValue& Value::as_map() const {
  JOBC_CHECK(kind_ == ValueKind::Map);
  return **std::get_if<MapPtr>(&payload_);
}

uint32_t Value::instance_job() const {
  JOBC_CHECK(kind_ == ValueKind::Instance);
  return small_;
}

uint64_t Value::instance_ordinal() const {
  JOBC_CHECK(kind_ == ValueKind::Instance);
  return static_cast<uint64_t>(*std::get_if<int64_t>(&payload_));
}

int Value::Compare(const Value& x, const Value& y) {
  if (x.kind_ != y.kind_) {
    // Ints and Floats meet only inside Json values.
    if (x.kind_ == ValueKind::Int && y.kind_ == ValueKind::Float) return CompareMixed(x.as_int(), y.as_float());
    if (x.kind_ == ValueKind::Float && y.kind_ == ValueKind::Int) return -CompareMixed(y.as_int(), x.as_float());
    return Order(x.kind_, y.kind_);
  }
  switch (x.kind_) {
    case ValueKind::Null:
      return 0;
    case ValueKind::Bool: case ValueKind::Enum:
      return Order(x.small_, y.small_);
    case ValueKind::Int: case ValueKind::Duration: case ValueKind::Bytes:
      return Order(x.as_int(), y.as_int());
    case ValueKind::Float:
      return Order(x.as_float(), y.as_float());
    case ValueKind::String: case ValueKind::Secret: {
      int order = x.as_string().compare(y.as_string());
      return order < 0 ? -1 : order > 0 ? 1 : 0;
    }
    case ValueKind::File: {
      const FileValue& f = x.as_file();
      const FileValue& g = y.as_file();
      if (&f == &g) return 0;
      if (int order = Order(f.base, g.base)) return order;
      if (int order = Order(f.path, g.path)) return order;
      if (int order = Order(f.is_dir, g.is_dir)) return order;
      if (int order = Order(f.location, g.location)) return order;
      return f.base == FileBase::Text ? Order(f.sha256, g.sha256) : 0;
    }
    case ValueKind::List: {
      const ListValue& a = x.as_list();
      const ListValue& b = y.as_list();
      if (&a == &b) return 0;
      for (size_t i = 0; i < a.size() && i < b.size(); ++i) {
        if (int order = Compare(a[i], b[i])) return order;
      }
      return Order(a.size(), b.size());
    }
    case ValueKind::Map: {
      const MapValue& a = x.as_map();
      const MapValue& b = y.as_map();
      if (&a == &b) return 0;
      for (size_t i = 0; i < a.size() && i < b.size(); ++i) {
        if (int order = Compare(a[i].first, b[i].first)) return order;
        if (int order = Compare(a[i].second, b[i].second)) return order;
      }
      return Order(a.size(), b.size());
    }
    case ValueKind::Instance:
      if (int order = Order(x.small_, y.small_)) return order;
      return Order(x.instance_ordinal(), y.instance_ordinal());
  }
  JOBC_UNREACHABLE();
}

size_t Value::Hash() const {
  switch (kind_) {
    case ValueKind::Null:
      return 1;
    case ValueKind::Bool: case ValueKind::Enum:
      return MixInt((static_cast<uint64_t>(kind_) << 32) + small_);
    case ValueKind::Int: case ValueKind::Duration: case ValueKind::Bytes:
      return MixInt(static_cast<uint64_t>(as_int()));
    case ValueKind::Float: {
      // Equal to the Int it equals.
      double value = as_float();
      if (value == std::floor(value) && value >= -9223372036854775808.0 && value < 9223372036854775808.0) {
        return MixInt(static_cast<uint64_t>(static_cast<int64_t>(value)));
      }
      return MixInt(std::bit_cast<uint64_t>(value));
    }
    case ValueKind::String: case ValueKind::Secret:
      return std::hash<std::string>()(as_string());
    case ValueKind::File:
      return Mix(std::hash<std::string>()(as_file().path), static_cast<size_t>(as_file().base));
    case ValueKind::List: {
      size_t hash = 2;
      for (const Value& element : as_list()) hash = Mix(hash, element.Hash());
      return hash;
    }
    case ValueKind::Map: {
      size_t hash = 3;
      for (const auto& [key, value] : as_map()) hash = Mix(Mix(hash, key.Hash()), value.Hash());
      return hash;
    }
    case ValueKind::Instance:
      return Mix(MixInt(instance_ordinal()), small_);
  }
  JOBC_UNREACHABLE();
}

const Value* Value::Find(std::string_view key) const {
  if (kind_ != ValueKind::Map) return nullptr;
  const MapValue& map = as_map();
  auto it = std::lower_bound(map.begin(), map.end(), key, [](const auto& entry, std::string_view k) {
    return entry.first.kind() == ValueKind::String && std::string_view(entry.first.as_string()) < k;
  });
  if (it == map.end() || it->first.kind() != ValueKind::String || it->first.as_string() != key) return nullptr;
  return &it->second;
}

}  // namespace jobc::ir
