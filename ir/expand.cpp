#include "ir/expand.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "ir/dump.h"
#include "ir/json.h"
#include "support/sha256.h"
#include "support/text_width.h"

namespace jobc::ir {
namespace {

constexpr uint64_t kMaxCombinations = 10'000'000;
constexpr uint64_t kMaxElements = uint64_t{1} << 31;
constexpr size_t kMaxKeyBytes = 200;

/// Answers loop variables of one element; everything else of phase P is asked of the context around it.
class ElementContext : public EvalContext {
 public:
  explicit ElementContext(EvalContext& outer) : outer_(outer) {}

  bool Var(uint32_t slot, Value& out, Fault& fault) override {
    if (slot >= 2) return outer_.Var(slot, out, fault);
    out = slot == 0 ? first : second;
    return true;
  }
  bool JobOutput(uint32_t job, uint32_t output, const ListValue& indices, Value& out, Fault& fault) override {
    return outer_.JobOutput(job, output, indices, out, fault);
  }
  bool JobStatus(uint32_t job, StatusField field, const ListValue& indices, Value& out, Fault& fault) override {
    return outer_.JobStatus(job, field, indices, out, fault);
  }
  bool ScatterStatus(uint32_t job, StatusField field, Value& out, Fault& fault) override {
    return outer_.ScatterStatus(job, field, out, fault);
  }
  bool Instances(uint32_t job, const ListValue& indices, Value& out, Fault& fault) override {
    return outer_.Instances(job, indices, out, fault);
  }
  bool InstanceOutput(const Value& instance, uint32_t output, Value& out, Fault& fault) override {
    return outer_.InstanceOutput(instance, output, out, fault);
  }
  bool InstanceStatus(const Value& instance, StatusField field, Value& out, Fault& fault) override {
    return outer_.InstanceStatus(instance, field, out, fault);
  }
  bool InstanceKey(const Value& instance, Value& out, Fault& fault) override { return outer_.InstanceKey(instance, out, fault); }
  bool FileSize(const FileValue& file, Value& out, Fault& fault) override { return outer_.FileSize(file, out, fault); }
  bool FileSha256(const FileValue& file, Value& out, Fault& fault) override { return outer_.FileSha256(file, out, fault); }
  bool FileText(const FileValue& file, std::string& out, Fault& fault) override { return outer_.FileText(file, out, fault); }

  Value first, second;

 private:
  EvalContext& outer_;
};

/// Ordinals by key, open addressing: 4 to 8 bytes an element beside the keys themselves.
class KeyIndex {
 public:
  void Reserve(uint64_t count) {
    uint64_t size = 8;
    while (size * 3 < count * 4) size *= 2;
    slots_.assign(size, kEmpty);
  }

  /// The element that has this key already, or -1 after adding `element`.
  template <typename KeyAt>
  int64_t Insert(uint32_t element, const Value& key, const KeyAt& key_at) {
    for (uint64_t at = Slot(key);; at = (at + 1) & (slots_.size() - 1)) {
      if (slots_[at] == kEmpty) {
        slots_[at] = element;
        return -1;
      }
      if (Value::Compare(key_at(slots_[at]), key) == 0) return slots_[at];
    }
  }

  template <typename KeyAt>
  int64_t Find(const Value& key, const KeyAt& key_at) const {
    if (slots_.empty()) return -1;
    for (uint64_t at = Slot(key);; at = (at + 1) & (slots_.size() - 1)) {
      if (slots_[at] == kEmpty) return -1;
      if (Value::Compare(key_at(slots_[at]), key) == 0) return slots_[at];
    }
  }

 private:
  static constexpr uint32_t kEmpty = UINT32_MAX;
  uint64_t Slot(const Value& key) const { return (key.Hash() * 0x9e3779b97f4a7c15ull >> 20) & (slots_.size() - 1); }

  std::vector<uint32_t> slots_;
};

std::string_view TextKeyProblem(std::string_view text) {
  if (text.empty()) return "it is empty";
  if (text.size() > kMaxKeyBytes) return "it is longer than 200 bytes";
  for (unsigned char c : text) {
    if (c < 0x20 || c == 0x7F) return "it holds a control character";
  }
  return {};
}

}  // namespace

struct Instances::State {
  std::string address;
  bool has_list = false;
  bool two_names = false;
  bool pairs = false;  ///< two names over a list of pairs: first and second of each

  // The elements: a range (low + i * step), a list or a map.
  uint64_t elements = 1;
  bool is_range = false;
  int64_t low = 0, step = 1;
  Value source;

  // The keys: the index, the variable itself, or computed ones.
  enum class Keys { Index, Variable, Stored } keys = Keys::Index;
  std::vector<Value> stored;
  KeyIndex index;
  std::vector<std::string> key_cases;  ///< of enum keys

  struct AxisValues {
    std::vector<Value> values;
    std::vector<std::string> texts;
  };
  std::vector<AxisValues> axes;
  uint64_t all_combinations = 1;
  std::vector<uint32_t> combinations;  ///< kept ones, ascending; empty with `all_kept`
  bool all_kept = true;

  uint64_t kept() const { return all_kept ? all_combinations : combinations.size(); }
  uint64_t Combination(uint64_t i) const { return all_kept ? i : combinations[i]; }

  Value Element(uint64_t i) const {
    if (is_range) return Value::Int(low + static_cast<int64_t>(i) * step);
    if (source.kind() == ValueKind::Map) return source.as_map()[i].second;
    return source.as_list()[i];
  }
  Value First(uint64_t i) const {
    if (source.kind() == ValueKind::Map) return two_names ? source.as_map()[i].first : source.as_map()[i].second;
    if (pairs) return Half(i, 0);
    return two_names ? Value::Int(static_cast<int64_t>(i)) : Element(i);
  }
  Value Second(uint64_t i) const { return !two_names ? Value() : pairs ? Half(i, 1) : Element(i); }
  Value Half(uint64_t i, size_t which) const {
    const Value pair = Element(i);
    return pair.kind() == ValueKind::List && pair.as_list().size() == 2 ? pair.as_list()[which] : Value();
  }

  Value Key(uint64_t i) const {
    switch (keys) {
      case Keys::Index: return Value::Int(static_cast<int64_t>(i));
      case Keys::Variable: return First(i);
      case Keys::Stored: return stored[i];
    }
    return Value();
  }

  /// -1: no element has this key.
  int64_t FindKey(const Value& key) const {
    if (keys == Keys::Index) {
      return key.kind() == ValueKind::Int && key.as_int() >= 0 && static_cast<uint64_t>(key.as_int()) < elements ? key.as_int() : -1;
    }
    if (keys == Keys::Variable && is_range) {
      if (key.kind() != ValueKind::Int) return -1;
      __int128 distance = static_cast<__int128>(key.as_int()) - low;
      if (distance % step != 0) return -1;
      __int128 i = distance / step;
      return i >= 0 && i < static_cast<__int128>(elements) ? static_cast<int64_t>(i) : -1;
    }
    if (keys == Keys::Stored) {
      return index.Find(key, [this](uint32_t i) -> const Value& { return stored[i]; });
    }
    return index.Find(key, [this](uint32_t i) { return First(i); });
  }

  std::string KeyText(const Value& key) const {
    switch (key.kind()) {
      case ValueKind::String: return key.as_string();
      case ValueKind::Enum: return static_cast<size_t>(key.as_int()) < key_cases.size() ? key_cases[static_cast<size_t>(key.as_int())] : std::string();
      case ValueKind::Int: return std::to_string(key.as_int());
      default: return {};
    }
  }

  std::vector<std::string> KeyTexts(uint64_t ordinal) const {
    std::vector<std::string> texts;
    uint64_t combination = Combination(ordinal % kept());
    if (has_list) texts.push_back(KeyText(Key(ordinal / kept())));
    size_t first = texts.size();
    for (size_t a = axes.size(); a-- > 0;) {
      texts.insert(texts.begin() + static_cast<std::ptrdiff_t>(first), axes[a].texts[combination % axes[a].values.size()]);
      combination /= axes[a].values.size();
    }
    return texts;
  }

  size_t dimensions() const { return (has_list ? 1 : 0) + axes.size(); }
};

Result<Instances> Instances::Expand(const Plan& plan, uint32_t job_index, Evaluator& evaluator, EvalContext& context, const Value* list) {
  if (job_index >= plan.jobs.size()) return Error{"no such job"};
  const Job& job = plan.jobs[job_index];
  const Domain& domain = job.domain;
  const Program& program = plan.program;
  const ExprPool& exprs = program.exprs;
  const TypeTable& types = program.types;
  auto state = std::make_shared<State>();
  state->address = job.address;
  auto failed = [&](std::string_view what) { return Error{fmt::format("`{}`: {}: {}", job.address, what, evaluator.fault().message)}; };

  // What `for` runs over. Literal ranges are kept as two numbers.
  if (domain.list.valid()) {
    state->has_list = true;
    state->two_names = domain.two_names;
    const TypeNode& list_type = types[types.NonNull(exprs[domain.list].type)];
    state->pairs = domain.two_names && list_type.kind == TypeKind::List && types.kind(list_type.a) == TypeKind::Pair;
    ExprId source = domain.list;
    for (int i = 0; i < 64 && exprs[source].op == Op::Let && exprs[source].a < program.lets.size(); ++i) source = program.lets[exprs[source].a].value;
    const Expr& e = exprs[source];
    bool range_type = types.kind(types.NonNull(exprs[domain.list].type)) == TypeKind::Range;
    if (!list && e.op == Op::Call && static_cast<Builtin>(e.a) == Builtin::range && e.args.size >= 1 && e.args.size <= 3) {
      int64_t bounds[3] = {0, 0, 1};
      for (uint32_t i = 0; i < e.args.size; ++i) {
        Value value;
        if (!evaluator.Evaluate(exprs.arg(e, i), context, value)) return failed("its `for` has no value");
        if (value.kind() != ValueKind::Int) return Error{fmt::format("`{}`: its `for` is not a list", job.address)};
        bounds[e.args.size == 1 ? 1 : i] = value.as_int();
      }
      if (bounds[2] == 0) return Error{fmt::format("`{}`: `range` with a step of 0 has no end", job.address)};
      __int128 distance = static_cast<__int128>(bounds[1]) - bounds[0];
      __int128 step = bounds[2];
      __int128 count = (step > 0) == (distance > 0) ? (distance + step - (step > 0 ? 1 : -1)) / step : 0;
      state->is_range = true;
      state->low = bounds[0];
      state->step = bounds[2];
      state->elements = count > static_cast<__int128>(kMaxElements) ? kMaxElements + 1 : static_cast<uint64_t>(count);
    } else {
      if (list) {
        state->source = *list;
      } else if (!evaluator.Evaluate(domain.list, context, state->source)) {
        return failed("its `for` has no value");
      }
      if (range_type && state->source.kind() == ValueKind::List && state->source.as_list().size() == 2 &&
          state->source.as_list()[0].kind() == ValueKind::Int && state->source.as_list()[1].kind() == ValueKind::Int) {
        int64_t low = state->source.as_list()[0].as_int(), high = state->source.as_list()[1].as_int();
        __int128 count = static_cast<__int128>(high) - low + 1;
        state->is_range = true;
        state->low = low;
        state->elements = count < 0 ? 0 : count > static_cast<__int128>(kMaxElements) ? kMaxElements + 1 : static_cast<uint64_t>(count);
        state->source = Value();
      } else if (state->source.kind() == ValueKind::List) {
        state->elements = state->source.as_list().size();
      } else if (state->source.kind() == ValueKind::Map) {
        state->elements = state->source.as_map().size();
      } else {
        return Error{fmt::format("`{}`: its `for` runs over {}, which is not a list", job.address,
                                 ShowValue(program, state->source, exprs[domain.list].type))};
      }
    }
    if (domain.max && state->elements > *domain.max) {
      return Error{fmt::format("`{}` spans {} elements, but its `max` is {}", job.address, state->elements, *domain.max)};
    }
    if (state->elements > kMaxElements) return Error{fmt::format("`{}` spans more than {} elements", job.address, kMaxElements)};
  }

  // Keys. Those that are the loop variable of a range or the key of a map cannot collide.
  if (state->has_list && domain.key.valid()) {
    const Expr& key = exprs[domain.key];
    if (types.kind(types.Bare(key.type)) == TypeKind::Enum) state->key_cases = types[EnumId{types[key.type].def}].cases;
    bool variable = key.op == Op::Var && key.a == 0;
    bool variable_is_index = state->two_names && !state->pairs && state->source.kind() != ValueKind::Map;
    ElementContext element(context);
    if (variable && variable_is_index) {
      state->keys = State::Keys::Index;
    } else if (variable && state->is_range) {
      state->keys = State::Keys::Variable;
    } else {
      state->keys = variable ? State::Keys::Variable : State::Keys::Stored;
      state->index.Reserve(state->elements);
      if (!variable) state->stored.reserve(state->elements);
      for (uint64_t i = 0; i < state->elements; ++i) {
        Value value;
        if (variable) {
          value = state->First(i);
        } else {
          element.first = state->First(i);
          element.second = state->Second(i);
          if (!evaluator.Evaluate(domain.key, element, value)) return failed(fmt::format("the key of element {} has no value", i));
        }
        if (value.kind() != ValueKind::String && value.kind() != ValueKind::Int && value.kind() != ValueKind::Enum) {
          return Error{fmt::format("`{}`: the key of element {} is {}: keys are String, Int or enum values", job.address, i,
                                   ShowValue(program, value, key.type))};
        }
        if (value.kind() == ValueKind::String) {
          if (std::string_view problem = TextKeyProblem(value.as_string()); !problem.empty()) {
            return Error{fmt::format("`{}`: the key {} of element {} cannot be used: {}", job.address,
                                     ShowValue(program, value, key.type), i, problem)};
          }
        }
        int64_t other;
        if (variable) {
          other = state->index.Insert(static_cast<uint32_t>(i), value, [&](uint32_t j) { return state->First(j); });
        } else {
          state->stored.push_back(value);
          other = state->index.Insert(static_cast<uint32_t>(i), value, [&](uint32_t j) -> const Value& { return state->stored[j]; });
        }
        if (other >= 0) {
          return Error{fmt::format("`{}`: two instances would be {}: elements {} and {} have the same key", job.address,
                                   FormatAddress(job.address, {state->KeyText(value)}), other, i)};
        }
      }
    }
  }

  // Axes and what is excluded of their combinations.
  for (const Axis& axis : domain.axes) {
    Value values;
    if (!evaluator.Evaluate(axis.values, context, values)) return failed(fmt::format("the axis `{}` has no value", axis.name));
    if (values.kind() != ValueKind::List || values.as_list().empty()) {
      return Error{fmt::format("`{}`: the axis `{}` has no values", job.address, axis.name)};
    }
    State::AxisValues stored;
    for (const Value& value : values.as_list()) {
      std::string text;
      if (value.kind() != ValueKind::String && value.kind() != ValueKind::Int && value.kind() != ValueKind::Bool && value.kind() != ValueKind::Enum) {
        return Error{fmt::format("`{}`: {} on the axis `{}`: values of an axis are String, Int, Bool or enum values", job.address,
                                 ShowValue(program, value, axis.type), axis.name)};
      }
      if (!evaluator.ToText(value, axis.type, context, text)) return failed(fmt::format("a value of the axis `{}`", axis.name));
      if (std::string_view problem = TextKeyProblem(text); !problem.empty()) {
        return Error{fmt::format("`{}`: the value {} of the axis `{}` cannot be used: {}", job.address, JsonQuote(text), axis.name, problem)};
      }
      if (std::find(stored.values.begin(), stored.values.end(), value) != stored.values.end()) {
        return Error{fmt::format("`{}`: the axis `{}` has the value {} twice", job.address, axis.name, ShowValue(program, value, axis.type))};
      }
      stored.values.push_back(value);
      stored.texts.push_back(std::move(text));
    }
    state->all_combinations *= stored.values.size();
    if (state->all_combinations > kMaxCombinations) {
      return Error{fmt::format("`{}`: its matrix has more than {} combinations", job.address, kMaxCombinations)};
    }
    state->axes.push_back(std::move(stored));
  }
  if (!domain.excluded.empty() && !state->axes.empty()) {
    // Rows as positions on the axes; -1: any.
    std::vector<std::vector<int64_t>> rows;
    for (const auto& row : domain.excluded) {
      std::vector<int64_t> positions(state->axes.size(), -1);
      bool possible = true;
      for (const auto& [axis, expr] : row) {
        if (axis >= state->axes.size()) return Error{fmt::format("`{}`: `exclude` names an axis that does not exist", job.address)};
        Value value;
        if (!evaluator.Evaluate(expr, context, value)) return failed("a row of `exclude` has no value");
        const std::vector<Value>& values = state->axes[axis].values;
        auto it = std::find(values.begin(), values.end(), value);
        possible = possible && it != values.end();
        positions[axis] = it - values.begin();
      }
      if (possible) rows.push_back(std::move(positions));
    }
    state->all_kept = false;
    std::vector<uint32_t> digits(state->axes.size(), 0);
    for (uint64_t c = 0; c < state->all_combinations; ++c) {
      bool excluded = std::any_of(rows.begin(), rows.end(), [&](const std::vector<int64_t>& row) {
        for (size_t a = 0; a < row.size(); ++a) {
          if (row[a] >= 0 && static_cast<uint32_t>(row[a]) != digits[a]) return false;
        }
        return true;
      });
      if (!excluded) state->combinations.push_back(static_cast<uint32_t>(c));
      for (size_t a = digits.size(); a-- > 0;) {
        if (++digits[a] < state->axes[a].values.size()) break;
        digits[a] = 0;
      }
    }
  }
  Instances instances;
  instances.state_ = std::move(state);
  return instances;
}

uint64_t Instances::size() const { return state_->elements * state_->kept(); }

Value Instances::Var(uint64_t ordinal, uint32_t slot) const {
  JOBC_CHECK(ordinal < size());
  uint64_t element = ordinal / state_->kept();
  if (slot == 0) return state_->has_list ? state_->First(element) : Value();
  if (slot == 1) return state_->has_list ? state_->Second(element) : Value();
  uint32_t axis = slot - 2;
  JOBC_CHECK(axis < state_->axes.size());
  uint64_t combination = state_->Combination(ordinal % state_->kept());
  for (size_t a = state_->axes.size() - 1; a > axis; --a) combination /= state_->axes[a].values.size();
  return state_->axes[axis].values[combination % state_->axes[axis].values.size()];
}

ListValue Instances::Indices(uint64_t ordinal) const {
  JOBC_CHECK(ordinal < size());
  ListValue indices;
  if (state_->has_list) indices.push_back(state_->Key(ordinal / state_->kept()));
  for (uint32_t a = 0; a < state_->axes.size(); ++a) indices.push_back(Var(ordinal, 2 + a));
  return indices;
}

int64_t Instances::Find(const ListValue& indices) const {
  if (indices.size() != state_->dimensions()) return -1;
  std::vector<uint64_t> found = FindAll(indices);
  return found.empty() ? -1 : static_cast<int64_t>(found[0]);
}

std::vector<uint64_t> Instances::FindAll(const ListValue& leading) const {
  const State& s = *state_;
  if (leading.size() > s.dimensions()) return {};
  uint64_t first_element = 0, end_element = s.elements;
  size_t next = 0;
  if (s.has_list && !leading.empty()) {
    int64_t element = s.FindKey(leading[0]);
    if (element < 0) return {};
    first_element = static_cast<uint64_t>(element);
    end_element = first_element + 1;
    next = 1;
  }
  // Leading axes fix the leading digits of a combination: one contiguous block.
  uint64_t block = s.all_combinations, begin = 0;
  for (size_t a = 0; next < leading.size(); ++next, ++a) {
    const std::vector<Value>& values = s.axes[a].values;
    auto it = std::find(values.begin(), values.end(), leading[next]);
    if (it == values.end() || it->kind() != leading[next].kind()) return {};
    block /= values.size();
    begin += static_cast<uint64_t>(it - values.begin()) * block;
  }
  uint64_t first = begin, end = begin + block;
  if (!s.all_kept) {
    first = static_cast<uint64_t>(std::lower_bound(s.combinations.begin(), s.combinations.end(), begin) - s.combinations.begin());
    end = static_cast<uint64_t>(std::lower_bound(s.combinations.begin(), s.combinations.end(), begin + block) - s.combinations.begin());
  }
  std::vector<uint64_t> found;
  found.reserve((end_element - first_element) * (end - first));
  for (uint64_t element = first_element; element < end_element; ++element) {
    for (uint64_t c = first; c < end; ++c) found.push_back(element * s.kept() + c);
  }
  return found;
}

std::string Instances::Address(uint64_t ordinal) const {
  JOBC_CHECK(ordinal < size());
  return FormatAddress(state_->address, state_->KeyTexts(ordinal));
}

std::string Instances::KeyText(uint64_t ordinal) const {
  JOBC_CHECK(ordinal < size());
  std::vector<std::string> texts = state_->KeyTexts(ordinal);
  if (texts.size() == 1) return texts[0];
  return FormatAddress("", texts);
}

std::string FormatAddress(const std::string& job, const std::vector<std::string>& key_texts) {
  std::string out = job;
  for (size_t i = 0; i < key_texts.size(); ++i) {
    out += i == 0 ? "[" : ",";
    out += JsonQuote(key_texts[i]);
  }
  if (!key_texts.empty()) out += "]";
  return out;
}

std::string SafeName(std::string_view address, size_t limit) {
  constexpr char kHex[] = "0123456789ABCDEF";
  constexpr size_t kDigits = 10;
  std::string out;
  bool upper = false;
  for (char c : address) {
    bool is_upper = c >= 'A' && c <= 'Z';
    upper = upper || is_upper;
    bool kept = (c >= 'a' && c <= 'z') || is_upper || (c >= '0' && c <= '9') || c == '_' || c == '-' || (c == '.' && !out.empty());
    if (kept) {
      out += c;
    } else {
      unsigned char byte = static_cast<unsigned char>(c);
      out += {'%', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  // Names that differ only in case would be one file on some systems: those with capitals get their hash too.
  if (out.size() <= limit && !upper && !out.empty()) return out;
  size_t room = limit > kDigits + 1 ? limit - kDigits - 1 : 0;
  if (out.size() > room) {
    size_t cut = room;
    if (cut >= 1 && out[cut - 1] == '%') cut -= 1;
    else if (cut >= 2 && out[cut - 2] == '%') cut -= 2;
    out.resize(cut);
  }
  if (!out.empty()) out += '-';
  return out + Sha256Hex(address).substr(0, kDigits);
}

}  // namespace jobc::ir
