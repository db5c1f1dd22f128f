// The built-in functions of builtins.def.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <unordered_set>

#include "ir/arithmetic.h"
#include "ir/dump.h"
#include "ir/file_path.h"
#include "ir/json.h"
#include "ir/machine.h"
#include "support/sha256.h"
#include "support/text_width.h"

namespace jobc::ir {
namespace {

constexpr int64_t kMaxPadWidth = 65536;

bool IsWhiteSpace(char32_t c) {
  return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
         c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

std::string_view Trim(std::string_view text) {
  while (!text.empty()) {
    Utf8Char c = DecodeUtf8(text, 0);
    if (!c.valid || !IsWhiteSpace(c.value)) break;
    text.remove_prefix(c.size);
  }
  while (!text.empty()) {
    size_t at = text.size() - 1;
    while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
    Utf8Char c = DecodeUtf8(text, at);
    if (!c.valid || at + c.size != text.size() || !IsWhiteSpace(c.value)) break;
    text.remove_suffix(c.size);
  }
  return text;
}

bool StartsWith(std::string_view text, std::string_view prefix) { return text.substr(0, prefix.size()) == prefix; }
bool EndsWith(std::string_view text, std::string_view suffix) {
  return text.size() >= suffix.size() && text.substr(text.size() - suffix.size()) == suffix;
}

/// Digits with an optional `-`, nothing else.
bool ParseInt(std::string_view text, int64_t& out, bool& overflow) {
  overflow = false;
  size_t digits = !text.empty() && text[0] == '-' ? 1 : 0;
  if (text.size() == digits || text.find_first_not_of("0123456789", digits) != std::string_view::npos) return false;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  overflow = error == std::errc::result_out_of_range;
  return error == std::errc();
}

bool ParseFloat(std::string_view text, double& out) {
  std::string_view rest = text;
  if (!rest.empty() && rest[0] == '-') rest.remove_prefix(1);
  if (rest.empty() || rest[0] < '0' || rest[0] > '9' || rest.back() == '.') return false;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size() && std::isfinite(out);
}

/// To the integer nearest to `value`, as an Int; false if it is outside of 64 bits.
bool WholeToInt(double value, int64_t& out) {
  if (!(value >= -9223372036854775808.0 && value < 9223372036854775808.0)) return false;
  out = static_cast<int64_t>(value);
  return true;
}

double RoundHalfEven(double value) {
  double low = std::floor(value);
  double rest = value - low;
  if (rest < 0.5) return low;
  if (rest > 0.5) return low + 1;
  return std::fmod(low, 2) == 0 ? low : low + 1;
}

Value Text(std::string_view text) { return Value::String(std::string(text)); }

struct HashValue {
  size_t operator()(const Value* value) const { return value->Hash(); }
};
struct EqualValue {
  bool operator()(const Value* x, const Value* y) const { return Value::Compare(*x, *y) == 0; }
};

}  // namespace

bool Machine::Call(Builtin function, const Arguments& args, const Expr& e, ExprId id, Value& out) {
  // A checked call has the arguments of a signature; a plan from elsewhere may not.
  if (args.values.empty()) return Malformed(id);
  for (const Value& value : args.values) {
    if (value.kind() == ValueKind::Secret) return Fail(id, FaultKind::NotText, fmt::format("`{}` cannot take a secret", BuiltinName(function)));
  }
  if (args.values[0].is_null() && function != Builtin::json) {
    return Fail(id, FaultKind::Null, fmt::format("`{}` of null: give a value for it with `??`", BuiltinName(function)));
  }
  switch (function) {
    case Builtin::join: case Builtin::split: case Builtin::trim: case Builtin::lower: case Builtin::upper:
    case Builtin::replace: case Builtin::starts_with: case Builtin::ends_with: case Builtin::matches:
    case Builtin::format: case Builtin::pad: case Builtin::lines:
      return CallText(function, args, e, id, out);
    case Builtin::keys: case Builtin::values: case Builtin::entries: case Builtin::range: case Builtin::zip:
    case Builtin::enumerate: case Builtin::flatten: case Builtin::compact: case Builtin::unique: case Builtin::sort:
    case Builtin::reverse: case Builtin::sum: case Builtin::min: case Builtin::max: case Builtin::all: case Builtin::any:
      return CallList(function, args, e, id, out);
    default:
      return CallOther(function, args, e, id, out);
  }
}

bool Machine::CallText(Builtin function, const Arguments& args, const Expr& e, ExprId id, Value& out) {
  const auto& v = args.values;
  auto is_text = [&](size_t i) { return i < v.size() && v[i].kind() == ValueKind::String; };
  auto is_regex = [&](size_t i) { return i < args.types.size() && types_.kind(args.types[i]) == TypeKind::Regex; };
  switch (function) {
    case Builtin::join: {
      if (v[0].kind() != ValueKind::List || !is_text(1)) return Malformed(id);
      TypeId type = types_.NonNull(args.types[0]);
      TypeId element = types_.kind(type) == TypeKind::List ? types_[type].a : types_.Basic(TypeKind::String);
      std::string joined;
      bool first = true;
      for (const Value& item : v[0].as_list()) {
        if (!first) joined += v[1].as_string();
        first = false;
        if (!Text(id, item, element, joined)) return false;
        if (joined.size() > kMaxTextBytes) return Fail(id, FaultKind::TooLarge, "`join` makes a text of more than 1 GiB");
      }
      if (!Charge(id, joined.size())) return false;
      out = Value::String(std::move(joined));
      return true;
    }
    case Builtin::split: {
      if (!is_text(0) || !is_text(1)) return Malformed(id);
      std::string_view text = v[0].as_string(), separator = v[1].as_string();
      if (separator.empty()) return Fail(id, FaultKind::BadArgument, "`split` needs a separator that is not empty");
      if (!Charge(id, text.size())) return false;
      ListValue parts;
      for (;;) {
        size_t at = text.find(separator);
        if (!Charge(id, kElementCost)) return false;
        parts.push_back(jobc::ir::Text(text.substr(0, at)));
        if (at == std::string_view::npos) break;
        text.remove_prefix(at + separator.size());
      }
      out = Value::List(std::move(parts));
      return true;
    }
    case Builtin::lines: {
      if (!is_text(0)) return Malformed(id);
      std::string_view text = v[0].as_string();
      if (!Charge(id, text.size())) return false;
      ListValue parts;
      while (!text.empty()) {
        size_t at = text.find('\n');
        std::string_view line = text.substr(0, at);
        if (at != std::string_view::npos && !line.empty() && line.back() == '\r') line.remove_suffix(1);
        if (!Charge(id, kElementCost)) return false;
        parts.push_back(jobc::ir::Text(line));
        text = at == std::string_view::npos ? std::string_view() : text.substr(at + 1);
      }
      out = Value::List(std::move(parts));
      return true;
    }
    case Builtin::trim:
      if (!is_text(0) || !Charge(id, v[0].as_string().size())) return is_text(0) ? false : Malformed(id);
      out = jobc::ir::Text(Trim(v[0].as_string()));
      return true;
    case Builtin::lower: case Builtin::upper: {
      if (!is_text(0)) return Malformed(id);
      if (!Charge(id, v[0].as_string().size())) return false;
      std::string text = v[0].as_string();
      char first = function == Builtin::lower ? 'A' : 'a';
      for (char& c : text) {
        if (c >= first && c <= first + 25) c = static_cast<char>(c ^ 0x20);
      }
      out = Value::String(std::move(text));
      return true;
    }
    case Builtin::starts_with: case Builtin::ends_with: {
      if (!is_text(0) || !is_text(1)) return Malformed(id);
      bool holds = function == Builtin::starts_with ? StartsWith(v[0].as_string(), v[1].as_string())
                                                    : EndsWith(v[0].as_string(), v[1].as_string());
      out = Value::Bool(holds);
      return true;
    }
    case Builtin::matches: {
      if (!is_text(0) || !is_text(1)) return Malformed(id);
      const re2::RE2* regex = Regex(v[1].as_string(), id);
      if (!regex || !Charge(id, v[0].as_string().size())) return false;
      out = Value::Bool(re2::RE2::FullMatch(v[0].as_string(), *regex));
      return true;
    }
    case Builtin::replace: {
      if (!is_text(0) || !is_text(1) || !is_text(2)) return Malformed(id);
      const std::string& text = v[0].as_string();
      const std::string& what = v[1].as_string();
      const std::string& with = v[2].as_string();
      if (!Charge(id, text.size())) return false;
      if (is_regex(1)) return ReplaceRegex(text, what, with, id, out);
      if (what.empty()) return Fail(id, FaultKind::BadArgument, "`replace` needs a text to look for that is not empty");
      std::string result;
      size_t from = 0;
      for (size_t at; (at = text.find(what, from)) != std::string::npos; from = at + what.size()) {
        if (!Charge(id, at - from + with.size())) return false;
        result.append(text, from, at - from);
        result += with;
      }
      result.append(text, from);
      if (result.size() > kMaxTextBytes) return Fail(id, FaultKind::TooLarge, "`replace` makes a text of more than 1 GiB");
      out = Value::String(std::move(result));
      return true;
    }
    case Builtin::format:
      return Format(args, id, out);
    case Builtin::pad: {
      if (v.size() < 2 || v[1].kind() != ValueKind::Int) return Malformed(id);
      int64_t width = v[1].as_int();
      if (width < 0 || width > kMaxPadWidth) {
        return Fail(id, FaultKind::BadArgument, fmt::format("`pad` to a width of {}: 0 to {} is possible", width, kMaxPadWidth));
      }
      if (!Charge(id, static_cast<uint64_t>(width))) return false;
      std::string text, sign, fill = " ";
      if (v[0].kind() == ValueKind::Int) {
        text = std::to_string(v[0].as_int());
        fill = "0";
        if (text[0] == '-') {
          sign = "-";
          text.erase(0, 1);
        }
      } else if (is_text(0)) {
        text = v[0].as_string();
        if (v.size() > 2) {
          if (!is_text(2)) return Malformed(id);
          fill = v[2].as_string();
          if (ScalarCount(fill) != 1) return Fail(id, FaultKind::BadArgument, fmt::format("`pad` fills with one character, not with {}", JsonQuote(fill)));
        }
      } else {
        return Malformed(id);
      }
      std::string padded = sign;
      for (size_t have = ScalarCount(text) + sign.size(); have < static_cast<size_t>(width); ++have) padded += fill;
      out = Value::String(padded + text);
      return true;
    }
    default:
      return Malformed(id);
  }
}

bool Machine::ReplaceRegex(const std::string& text, const std::string& pattern, const std::string& rewrite, ExprId id, Value& out) {
  const re2::RE2* regex = Regex(pattern, id);
  if (!regex) return false;
  std::string why;
  if (!regex->CheckRewriteString(rewrite, &why)) {
    return Fail(id, FaultKind::BadArgument, fmt::format("the replacement {} does not fit re{}: {}", JsonQuote(rewrite), JsonQuote(pattern), why));
  }
  std::vector<re2::StringPiece> groups(static_cast<size_t>(1 + re2::RE2::MaxSubmatch(rewrite)));
  std::string result;
  size_t from = 0;
  bool after_match = false;  // an empty match directly after a match is none
  while (from <= text.size()) {
    if (!regex->Match(text, from, text.size(), re2::RE2::UNANCHORED, groups.data(), static_cast<int>(groups.size()))) break;
    size_t begin = static_cast<size_t>(groups[0].data() - text.data());
    size_t length = groups[0].size();
    size_t before = result.size();
    if (length == 0 && after_match && begin == from) {
      if (from == text.size()) break;
      size_t step = DecodeUtf8(text, from).size;
      result.append(text, from, step);
      from += step;
      after_match = false;
      continue;
    }
    result.append(text, from, begin - from);
    if (!regex->Rewrite(&result, rewrite, groups.data(), static_cast<int>(groups.size()))) return Malformed(id);
    from = begin + length;
    after_match = true;
    if (!Charge(id, result.size() - before + 1)) return false;
    if (result.size() > kMaxTextBytes) return Fail(id, FaultKind::TooLarge, "`replace` makes a text of more than 1 GiB");
  }
  if (from < text.size()) result.append(text, from);
  out = Value::String(std::move(result));
  return true;
}

bool Machine::Format(const Arguments& args, ExprId id, Value& out) {
  if (args.values[0].kind() != ValueKind::String) return Malformed(id);
  const std::string& pattern = args.values[0].as_string();
  std::string result;
  size_t next = 1;
  auto bad = [&](std::string_view why) {
    return Fail(id, FaultKind::BadArgument, fmt::format("`format` cannot use {}: {}", JsonQuote(pattern), why));
  };
  for (size_t i = 0; i < pattern.size(); ++i) {
    char c = pattern[i];
    if ((c == '{' || c == '}') && i + 1 < pattern.size() && pattern[i + 1] == c) {
      result += c;
      ++i;
      continue;
    }
    if (c == '}') return bad("a single `}`; write `}}` for the brace itself");
    if (c != '{') {
      result += c;
      continue;
    }
    size_t end = pattern.find('}', i);
    if (end == std::string::npos) return bad("`{` without `}`; write `{{` for the brace itself");
    std::string_view spec = std::string_view(pattern).substr(i + 1, end - i - 1);
    i = end;
    if (next >= args.values.size()) return bad(fmt::format("it has more `{{}}` than the {} arguments", args.values.size() - 1));
    const Value& value = args.values[next];
    TypeId type = args.types[next];
    ++next;
    bool number = value.kind() == ValueKind::Int || value.kind() == ValueKind::Float || value.kind() == ValueKind::Bytes;
    char align = number ? '>' : '<';
    bool zeros = false;
    int64_t width = 0, decimals = -1;
    if (!spec.empty()) {
      if (spec[0] != ':') return bad("inside `{}` only `:` and a form such as `>8` or `.3` may stand");
      spec.remove_prefix(1);
      if (!spec.empty() && (spec[0] == '<' || spec[0] == '>' || spec[0] == '^')) {
        align = spec[0];
        spec.remove_prefix(1);
      } else if (!spec.empty() && spec[0] == '0') {
        zeros = true;
      }
      size_t digits = std::min(spec.find_first_not_of("0123456789"), spec.size());
      bool overflow = false;
      if (digits > 0 && (digits > 6 || !ParseInt(spec.substr(0, digits), width, overflow))) return bad("the width is too large");
      spec.remove_prefix(digits);
      if (!spec.empty() && spec[0] == '.') {
        spec.remove_prefix(1);
        if (spec.empty() || spec.size() > 2 || !ParseInt(spec, decimals, overflow) || decimals < 0) return bad("`.` needs the number of decimals, 0 to 99");
        spec = {};
      }
      if (!spec.empty()) return bad(fmt::format("`{}` is not a form; use one such as `>8`, `05` or `.3`", spec));
      if (width > kMaxPadWidth) return bad("the width is too large");
      if (zeros && !number) return bad("`0` pads numbers only");
      if (decimals >= 0 && value.kind() != ValueKind::Float && value.kind() != ValueKind::Int) return bad("`.` is for Int and Float only");
    }
    std::string text;
    if (decimals >= 0) {
      text = value.kind() == ValueKind::Int ? std::to_string(value.as_int()) + (decimals > 0 ? "." + std::string(static_cast<size_t>(decimals), '0') : "")
                                            : fmt::format("{:.{}f}", value.as_float(), decimals);
      if (text.find_first_not_of("-0.") == std::string::npos && text[0] == '-') text.erase(0, 1);
    } else if (!Text(id, value, type, text)) {
      return false;
    }
    size_t have = ScalarCount(text);
    size_t missing = have < static_cast<size_t>(width) ? static_cast<size_t>(width) - have : 0;
    if (zeros) {
      text.insert(text[0] == '-' ? 1 : 0, std::string(missing, '0'));
    } else {
      size_t left = align == '>' ? missing : align == '^' ? missing / 2 : 0;
      text = std::string(left, ' ') + text + std::string(missing - left, ' ');
    }
    result += text;
    if (!Charge(id, text.size())) return false;
  }
  if (next != args.values.size()) return bad(fmt::format("it has {} `{{}}` for {} arguments", next - 1, args.values.size() - 1));
  if (!Charge(id, result.size())) return false;
  out = Value::String(std::move(result));
  return true;
}

bool Machine::RangeBounds(const Arguments& args, ExprId id, int64_t& low, int64_t& count, int64_t& step) {
  size_t n = args.values.size();
  if (n < 1 || n > 3) return Malformed(id);
  for (const Value& value : args.values) {
    if (value.kind() != ValueKind::Int) return Malformed(id);
  }
  low = n == 1 ? 0 : args.values[0].as_int();
  int64_t high = args.values[n == 1 ? 0 : 1].as_int();
  step = n == 3 ? args.values[2].as_int() : 1;
  if (step == 0) return Fail(id, FaultKind::BadArgument, "`range` with a step of 0 has no end");
  __int128 distance = static_cast<__int128>(high) - low;
  __int128 size = step > 0 ? (distance + step - 1) / step : (distance + step + 1) / step;
  if ((step > 0) != (distance > 0)) size = 0;
  if (size > INT64_MAX) return Fail(id, FaultKind::TooLarge, fmt::format("`range({}, {})` has too many elements", low, high));
  count = static_cast<int64_t>(size);
  return true;
}

bool Machine::CallList(Builtin function, const Arguments& args, const Expr& e, ExprId id, Value& out) {
  const auto& v = args.values;
  if (function == Builtin::keys || function == Builtin::values || function == Builtin::entries) {
    if (v[0].kind() != ValueKind::Map) return Malformed(id);
    const MapValue& map = v[0].as_map();
    if (!Charge(id, map.size() * kElementCost)) return false;
    ListValue list;
    list.reserve(map.size());
    for (const auto& [key, value] : map) {
      list.push_back(function == Builtin::keys ? key : function == Builtin::values ? value : Value::List({key, value}));
    }
    out = Value::List(std::move(list));
    return true;
  }
  if (function == Builtin::range) {
    int64_t low = 0, count = 0, step = 1;
    if (!RangeBounds(args, id, low, count, step)) return false;
    if (!Charge(id, std::min<uint64_t>(static_cast<uint64_t>(count), uint64_t{1} << 50) * kElementCost)) return false;
    ListValue list;
    list.reserve(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) list.push_back(Value::Int(low + i * step));
    out = Value::List(std::move(list));
    return true;
  }
  bool extremum = function == Builtin::min || function == Builtin::max;
  bool one_list = v[0].kind() == ValueKind::List && types_.kind(types_.NonNull(args.types[0])) == TypeKind::List;
  if (extremum && !one_list) {
    const Value* best = &v[0];
    for (const Value& value : v) {
      if (value.is_null()) return Fail(id, FaultKind::Null, fmt::format("`{}` of null", BuiltinName(function)));
      int order = Value::Compare(value, *best);
      if (function == Builtin::min ? order < 0 : order > 0) best = &value;
    }
    out = *best;
    return true;
  }
  if (v[0].kind() != ValueKind::List) return Malformed(id);
  const ListValue& list = v[0].as_list();
  if (!Charge(id, list.size() * kElementCost)) return false;
  ListValue result;
  switch (function) {
    case Builtin::min: case Builtin::max: {
      if (list.empty()) {
        return Fail(id, FaultKind::BadArgument, fmt::format("`{}` of an empty list has no value", BuiltinName(function)));
      }
      auto before = [](const Value& x, const Value& y) { return Value::Compare(x, y) < 0; };
      out = function == Builtin::min ? *std::min_element(list.begin(), list.end(), before)
                                     : *std::max_element(list.begin(), list.end(), before);
      return true;
    }
    case Builtin::zip: {
      if (v.size() != 2 || v[1].kind() != ValueKind::List) return Malformed(id);
      const ListValue& other = v[1].as_list();
      if (list.size() != other.size()) {
        return Fail(id, FaultKind::BadArgument, fmt::format("`zip` needs lists of equal length, these have {} and {} elements", list.size(), other.size()));
      }
      result.reserve(list.size());
      for (size_t i = 0; i < list.size(); ++i) result.push_back(Value::List({list[i], other[i]}));
      break;
    }
    case Builtin::enumerate:
      result.reserve(list.size());
      for (size_t i = 0; i < list.size(); ++i) result.push_back(Value::List({Value::Int(static_cast<int64_t>(i)), list[i]}));
      break;
    case Builtin::flatten:
      for (const Value& inner : list) {
        if (inner.kind() != ValueKind::List) return Malformed(id);
        const ListValue& elements = inner.as_list();
        if (!Charge(id, elements.size() * kElementCost)) return false;
        result.insert(result.end(), elements.begin(), elements.end());
      }
      break;
    case Builtin::compact:
      for (const Value& value : list) {
        if (!value.is_null()) result.push_back(value);
      }
      break;
    case Builtin::reverse:
      result.assign(list.rbegin(), list.rend());
      break;
    case Builtin::sort:
      result = list;
      std::stable_sort(result.begin(), result.end(), [](const Value& x, const Value& y) { return Value::Compare(x, y) < 0; });
      break;
    case Builtin::unique: {
      std::unordered_set<const Value*, HashValue, EqualValue> seen;
      seen.reserve(list.size());
      bool all_new = true;
      for (const Value& value : list) {
        if (!seen.insert(&value).second) {
          all_new = false;
          break;
        }
      }
      out = Value::Bool(all_new);
      return true;
    }
    case Builtin::all: case Builtin::any: {
      bool wanted = function == Builtin::any;
      for (const Value& value : list) {
        if (value.kind() != ValueKind::Bool) return Malformed(id);
        if (value.as_bool() == wanted) {
          out = Value::Bool(wanted);
          return true;
        }
      }
      out = Value::Bool(!wanted);
      return true;
    }
    case Builtin::sum: {
      switch (types_.kind(e.type)) {
        case TypeKind::Float: out = Value::Float(0); break;
        case TypeKind::Duration: out = Value::Duration(0); break;
        case TypeKind::Bytes: out = Value::Bytes(0); break;
        default: out = Value::Int(0); break;
      }
      Value total = out;
      for (const Value& value : list) {
        ArithmeticError error = Calculate(Op::Add, total, value, out);
        if (error == ArithmeticError::Operands) return Malformed(id);
        if (error != ArithmeticError::None) return Fail(id, FaultKind::Overflow, fmt::format("`sum` of {} elements overflows 64 bits", list.size()));
        total = out;
      }
      out = std::move(total);
      return true;
    }
    default:
      return Malformed(id);
  }
  out = Value::List(std::move(result));
  return true;
}

bool Machine::CallOther(Builtin function, const Arguments& args, const Expr& e, ExprId id, Value& out) {
  const auto& v = args.values;
  auto is_text = [&](size_t i) { return i < v.size() && v[i].kind() == ValueKind::String; };
  switch (function) {
    case Builtin::length:
      if (is_text(0)) {
        if (!Charge(id, v[0].as_string().size() / 16)) return false;
        out = Value::Int(static_cast<int64_t>(ScalarCount(v[0].as_string())));
      } else if (v[0].kind() == ValueKind::List) {
        out = Value::Int(static_cast<int64_t>(v[0].as_list().size()));
      } else if (v[0].kind() == ValueKind::Map) {
        out = Value::Int(static_cast<int64_t>(v[0].as_map().size()));
      } else {
        return Malformed(id);
      }
      return true;
    case Builtin::contains: {
      if (v.size() != 2) return Malformed(id);
      if (is_text(0)) {
        if (!is_text(1)) return Malformed(id);
        if (!Charge(id, v[0].as_string().size())) return false;
        if (types_.kind(args.types[1]) == TypeKind::Regex) {
          const re2::RE2* regex = Regex(v[1].as_string(), id);
          if (!regex) return false;
          out = Value::Bool(re2::RE2::PartialMatch(v[0].as_string(), *regex));
        } else {
          out = Value::Bool(v[0].as_string().find(v[1].as_string()) != std::string::npos);
        }
      } else if (v[0].kind() == ValueKind::List) {
        const ListValue& list = v[0].as_list();
        if (!Charge(id, list.size())) return false;
        out = Value::Bool(std::find(list.begin(), list.end(), v[1]) != list.end());
      } else if (v[0].kind() == ValueKind::Map) {
        const MapValue& map = v[0].as_map();
        auto it = std::lower_bound(map.begin(), map.end(), v[1],
                                   [](const auto& entry, const Value& key) { return Value::Compare(entry.first, key) < 0; });
        out = Value::Bool(it != map.end() && it->first == v[1]);
      } else {
        return Malformed(id);
      }
      return true;
    }
    case Builtin::abs:
      if (v[0].kind() == ValueKind::Float) {
        out = Value::Float(std::fabs(v[0].as_float()));
        return true;
      }
      if (v[0].kind() != ValueKind::Int) return Malformed(id);
      out = v[0];
      if (v[0].as_int() < 0 && Negated(v[0], out) != ArithmeticError::None) {
        return Fail(id, FaultKind::Overflow, fmt::format("`abs({})` overflows 64 bits", v[0].as_int()));
      }
      return true;
    case Builtin::floor: case Builtin::ceil: case Builtin::round: {
      if (v[0].kind() == ValueKind::Int) {
        out = v[0];
        return true;
      }
      if (v[0].kind() != ValueKind::Float) return Malformed(id);
      double value = v[0].as_float();
      double whole = function == Builtin::floor ? std::floor(value) : function == Builtin::ceil ? std::ceil(value) : RoundHalfEven(value);
      int64_t result = 0;
      if (!WholeToInt(whole, result)) {
        return Fail(id, FaultKind::Overflow, fmt::format("`{}({})` does not fit into an Int", BuiltinName(function), FloatText(value)));
      }
      out = Value::Int(result);
      return true;
    }
    case Builtin::basename: case Builtin::dirname: case Builtin::stem: case Builtin::extension: {
      if (v[0].kind() != ValueKind::File && !is_text(0)) return Malformed(id);
      const std::string& path = is_text(0) ? v[0].as_string() : v[0].as_file().path;
      if (!Charge(id, path.size())) return false;
      out = function == Builtin::basename ? jobc::ir::Text(PathBasename(path))
            : function == Builtin::dirname ? Value::String(PathDirname(path))
            : function == Builtin::stem    ? jobc::ir::Text(PathStem(path))
                                           : jobc::ir::Text(PathExtension(path));
      return true;
    }
    case Builtin::to_string: {
      std::string text;
      if (!Text(id, v[0], args.types[0], text)) return false;
      if (!Charge(id, text.size())) return false;
      out = Value::String(std::move(text));
      return true;
    }
    case Builtin::to_int: {
      if (v[0].kind() == ValueKind::Int) {
        out = v[0];
        return true;
      }
      int64_t result = 0;
      if (v[0].kind() == ValueKind::Float) {
        double value = v[0].as_float();
        if (value != std::floor(value)) return Fail(id, FaultKind::BadArgument, fmt::format("`to_int({})`: it is not whole; use floor, ceil or round", FloatText(value)));
        if (!WholeToInt(value, result)) return Fail(id, FaultKind::Overflow, fmt::format("`to_int({})` does not fit into an Int", FloatText(value)));
      } else if (is_text(0)) {
        bool overflow = false;
        if (!ParseInt(v[0].as_string(), result, overflow)) {
          return Fail(id, overflow ? FaultKind::Overflow : FaultKind::BadArgument,
                      fmt::format("`to_int({})`: {}", Show(v[0], args.types[0]), overflow ? "it does not fit into 64 bits" : "it is not a whole decimal number"));
        }
      } else {
        return Malformed(id);
      }
      out = Value::Int(result);
      return true;
    }
    case Builtin::to_float: {
      if (v[0].kind() == ValueKind::Float || v[0].kind() == ValueKind::Int) {
        out = Value::Float(v[0].as_float());
        return true;
      }
      if (!is_text(0)) return Malformed(id);
      double result = 0;
      if (!ParseFloat(v[0].as_string(), result)) {
        return Fail(id, FaultKind::BadArgument, fmt::format("`to_float({})`: it is not a number such as 0.5 or 1e6", Show(v[0], args.types[0])));
      }
      out = Value::Float(result);
      return true;
    }
    case Builtin::json: {
      ++state_.impure;
      Result<Value> json = ToJsonValue(v[0], args.types[0], program_, context_);
      if (!json) return Fail(id, FaultKind::NotText, json.error().message);
      out = std::move(*json);
      return true;
    }
    case Builtin::parse_json: case Builtin::decode: {
      TypeId type{e.b};
      if (type.index >= types_.size()) return Malformed(id);
      Value json = v[0];
      if (function == Builtin::parse_json) {
        if (!is_text(0)) return Malformed(id);
        if (!Charge(id, v[0].as_string().size() * 4)) return false;
        Result<Value> parsed = ParseJson(v[0].as_string());
        if (!parsed) return Fail(id, FaultKind::BadArgument, fmt::format("`parse_json`: {}", parsed.error().message));
        json = std::move(*parsed);
      }
      Result<Value> decoded = DecodeJson(json, type, evaluator_, context_, {.file_base = FileBase::Source});
      if (!decoded) return Fail(id, FaultKind::BadArgument, fmt::format("`{}` to {}: {}", BuiltinName(function), types_.Show(type), decoded.error().message));
      out = std::move(*decoded);
      return true;
    }
    case Builtin::sha256: case Builtin::size: {
      if (function == Builtin::sha256 && is_text(0)) {
        if (!Charge(id, v[0].as_string().size())) return false;
        out = Value::String(Sha256Hex(v[0].as_string()));
        return true;
      }
      if (v[0].kind() != ValueKind::File) return Malformed(id);
      if (const FileValue& file = v[0].as_file(); file.base == FileBase::Text) {
        out = function == Builtin::size ? Value::Bytes(static_cast<int64_t>(file.size)) : Value::String(file.sha256);
        return true;
      }
      Fault fault;
      fault.kind = FaultKind::Unavailable;
      bool ok = function == Builtin::size ? context_.FileSize(v[0].as_file(), out, fault) : context_.FileSha256(v[0].as_file(), out, fault);
      return FromContext(id, ok, fault);
    }
    case Builtin::text_file: case Builtin::json_file: {
      if (!is_text(0) || v.size() != 2) return Malformed(id);
      std::string content;
      if (function == Builtin::text_file) {
        if (!is_text(1)) return Malformed(id);
        content = v[1].as_string();
      } else {
        content = JsonText(v[1], 2) + "\n";
      }
      if (content.size() > kMaxResultBytes) {
        return Fail(id, FaultKind::TooLarge, fmt::format("`{}` makes a file of {}, more than {}; have a job write it", BuiltinName(function),
                                                         BytesForPeople(static_cast<int64_t>(content.size())), BytesForPeople(kMaxResultBytes)));
      }
      if (!Charge(id, content.size())) return false;
      FileValue file;
      std::string why;
      if (!MakeTextFile(v[0].as_string(), std::move(content), file, why)) {
        return Fail(id, FaultKind::BadArgument, fmt::format("`{}(\"{}\", …)`: {}", BuiltinName(function), v[0].as_string(), why));
      }
      out = Value::File(std::move(file));
      return true;
    }
    case Builtin::file: case Builtin::dir: {
      if (!is_text(0)) return Malformed(id);
      FileValue file;
      std::string why;
      if (!MakeFile(v[0].as_string(), FileBase::Source, "", function == Builtin::dir, file, why)) return Fail(id, FaultKind::BadArgument, why);
      out = Value::File(std::move(file));
      return true;
    }
    default:
      return Malformed(id);
  }
}

}  // namespace jobc::ir
