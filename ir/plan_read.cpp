// The reader of `jobc.plan/1`. A plan may come from anywhere: every id, range and shape is checked here, and lets, fns,
// structs and jobs must be acyclic, so that neither the evaluator nor the runtime can be led astray by one.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "ir/builtins.h"
#include "ir/dump.h"
#include "ir/evaluate.h"
#include "ir/file_path.h"
#include "ir/json.h"
#include "ir/json_parse.h"
#include "ir/op_shape.h"
#include "ir/plan_json.h"
#include "ir/plan_names.h"
#include "ir/plan_visit.h"
#include "support/text_width.h"

namespace jobc::ir {
namespace {

constexpr uint32_t kMaxHeight = 1500;
constexpr uint32_t kMaxIndex = UINT32_MAX - 16;

using Kinds = std::initializer_list<TypeKind>;

bool IsName(std::string_view text) {
  if (text.empty() || (text[0] >= '0' && text[0] <= '9')) return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  });
}

class PlanReader {
 public:
  bool Read(std::string_view text) {
    Result<Value> parsed = ParseJsonToDepth(text, kMaxPlanJsonDepth);
    if (!parsed) return Fail(parsed.error().message);
    const Value& root = *parsed;
    if (root.kind() != ValueKind::Map) return Fail("a plan is a JSON object");
    const Value* format = root.Find("format");
    if (!format || format->kind() != ValueKind::String || format->as_string().rfind("jobc.plan/", 0) != 0) {
      return Fail("this is not a plan: it has no \"format\": \"jobc.plan/1\"");
    }
    if (format->as_string() != fmt::format("jobc.plan/{}", kPlanMajor)) {
      return Fail(fmt::format("the plan has the format {}, this jobc reads jobc.plan/{}: make the plan again with this jobc, or run it with the one that made it",
                              VisibleText(format->as_string()), kPlanMajor));
    }
    int64_t minor = 0, functions = 0;
    if (!Int(root, "minor", minor, 0, 1'000'000) || !Int(root, "functions", functions, 0, 1'000'000)) return false;
    if (functions > kFunctionsVersion) {
      return Fail(fmt::format("the plan needs version {} of the built-in functions, this jobc has {}: use a newer jobc", functions, kFunctionsVersion));
    }
    newer_ = minor > kPlanMinor;
    plan.minor = static_cast<int>(minor);
    plan.functions = static_cast<int>(functions);
    return ReadRoot(root) && CheckNodes() && CheckAcyclic();
  }

  Plan plan;
  std::string error;

 private:
  /// Where in the text an error is; a chain on the call stack.
  struct Step {
    PlanReader& reader;
    Step(PlanReader& r, std::string_view key, size_t index = SIZE_MAX) : reader(r) { r.path_.push_back({key, index}); }
    ~Step() { reader.path_.pop_back(); }
  };

  bool Fail(std::string_view message) {
    if (!error.empty()) return false;
    std::string pointer;
    for (const auto& [key, index] : path_) {
      pointer += '/';
      pointer += index == SIZE_MAX ? std::string(key) : std::to_string(index);
    }
    error = pointer.empty() ? std::string(message) : fmt::format("{}: {}", VisibleText(pointer), message);
    return false;
  }

  // ---- Members of objects --------------------------------------------------------------------------------------------

  /// `json` must be an object that has no other members than these.
  bool Object(const Value& json, std::initializer_list<std::string_view> known) {
    if (json.kind() != ValueKind::Map) return Fail("expected an object");
    if (newer_) return true;
    for (const auto& [key, value] : json.as_map()) {
      if (std::find(known.begin(), known.end(), key.as_string()) == known.end()) {
        return Fail(fmt::format("unknown member {}", VisibleText(JsonQuote(key.as_string().substr(0, 60)))));
      }
    }
    return true;
  }

  const Value* Member(const Value& json, std::string_view key) { return json.Find(key); }

  bool Missing(std::string_view key) { return Fail(fmt::format("the member \"{}\" is missing", key)); }

  bool Text(const Value& json, std::string_view key, std::string& out, bool required = true) {
    const Value* value = json.Find(key);
    if (!value) return !required || Missing(key);
    if (value->kind() != ValueKind::String) return Fail(fmt::format("\"{}\" must be a text", key));
    out = value->as_string();
    return true;
  }

  bool Name(const Value& json, std::string_view key, std::string& out) {
    if (!Text(json, key, out)) return false;
    return IsName(out) || Fail(fmt::format("\"{}\" must be a name", key));
  }

  bool Int(const Value& json, std::string_view key, int64_t& out, int64_t low, int64_t high, bool required = true) {
    const Value* value = json.Find(key);
    if (!value) return !required || Missing(key);
    if (value->kind() != ValueKind::Int || value->as_int() < low || value->as_int() > high) {
      return Fail(fmt::format("\"{}\" must be a whole number from {} to {}", key, low, high));
    }
    out = value->as_int();
    return true;
  }

  bool Index(const Value& json, std::string_view key, uint32_t& out, size_t count) {
    int64_t value = 0;
    if (count == 0) return Fail(fmt::format("\"{}\" refers to something that does not exist", key));
    if (!Int(json, key, value, 0, static_cast<int64_t>(count) - 1)) return false;
    out = static_cast<uint32_t>(value);
    return true;
  }

  template <typename T>
  bool OptionalInt(const Value& json, std::string_view key, std::optional<T>& out, int64_t low) {
    if (!json.Find(key)) return true;
    int64_t value = 0;
    if (!Int(json, key, value, low, INT64_MAX)) return false;
    out = static_cast<T>(value);
    return true;
  }

  bool Flag(const Value& json, std::string_view key, bool& out, bool required = false) {
    const Value* value = json.Find(key);
    if (!value) return !required || Missing(key);
    if (value->kind() != ValueKind::Bool) return Fail(fmt::format("\"{}\" must be true or false", key));
    out = value->as_bool();
    return true;
  }

  bool Number(const Value& json, std::string_view key, double& out) {
    const Value* value = json.Find(key);
    if (!value) return Missing(key);
    if (value->kind() != ValueKind::Int && value->kind() != ValueKind::Float) return Fail(fmt::format("\"{}\" must be a number", key));
    out = value->as_float();
    return true;
  }

  template <typename E, typename NameOf>
  bool Word(const Value& json, std::string_view key, E& out, uint32_t count, NameOf name_of, bool required = true) {
    std::string word;
    if (!json.Find(key)) return !required || Missing(key);
    if (!Text(json, key, word)) return false;
    std::optional<E> found = FromWord<E>(word, count, name_of);
    if (!found) return Fail(fmt::format("\"{}\" cannot be {}", key, VisibleText(JsonQuote(word.substr(0, 60)))));
    out = *found;
    return true;
  }

  /// Calls `each(element)` for the elements of a member that may be missing.
  template <typename Each>
  bool List(const Value& json, std::string_view key, Each each, bool required = false) {
    const Value* value = json.Find(key);
    if (!value) return !required || Missing(key);
    Step step(*this, key);
    return Elements(*value, each);
  }

  template <typename Each>
  bool Elements(const Value& json, Each each) {
    if (json.kind() != ValueKind::List) return Fail("expected a list");
    const ListValue& list = json.as_list();
    for (size_t i = 0; i < list.size(); ++i) {
      Step step(*this, {}, i);
      if (!each(list[i])) return false;
    }
    return true;
  }

  // ---- Types -----------------------------------------------------------------------------------------------------------

  bool TypeOf(const Value& json, TypeId& out) {
    if (json.kind() == ValueKind::Int) {
      if (json.as_int() < 0 || static_cast<uint64_t>(json.as_int()) >= type_rows_.size()) return Fail("there is no type with this number (before this place)");
      out = type_rows_[static_cast<size_t>(json.as_int())];
      return true;
    }
    if (json.kind() == ValueKind::String) {
      for (uint32_t k = 0; k <= static_cast<uint32_t>(TypeKind::Instance); ++k) {
        TypeKind kind = static_cast<TypeKind>(k);
        if (!TypeKindName(kind).empty() && TypeKindName(kind) == json.as_string()) {
          out = plan.program.types.Basic(kind);
          return true;
        }
      }
    }
    return Fail("a type is the name of a basic type or the number of a row of \"types\"");
  }

  bool Type(const Value& json, std::string_view key, TypeId& out, bool required = true) {
    const Value* value = json.Find(key);
    if (!value) return !required || Missing(key);
    Step step(*this, key);
    return TypeOf(*value, out);
  }

  bool ReadTypeRow(const Value& json) {
    TypeTable& types = plan.program.types;
    if (!Object(json, {"base", "enum", "instance", "list", "map", "optional", "pair", "refinement", "struct"})) return false;
    TypeId a, b, out;
    auto two = [&](const Value& pair) {
      if (pair.kind() != ValueKind::List || pair.as_list().size() != 2) return Fail("expected two types");
      return TypeOf(pair.as_list()[0], a) && TypeOf(pair.as_list()[1], b);
    };
    // Bounds the recursion over types everywhere else.
    auto depth_of = [&](TypeId id) { return id.valid() && id.index < type_depth_.size() ? type_depth_[id.index] : 0; };
    if (const Value* list = json.Find("list")) {
      if (!TypeOf(*list, a)) return false;
      out = types.List(a);
    } else if (const Value* optional = json.Find("optional")) {
      if (!TypeOf(*optional, a)) return false;
      out = types.Optional(a);
    } else if (const Value* map = json.Find("map")) {
      if (!two(*map)) return false;
      TypeKind key = types.kind(a);
      if (key != TypeKind::String && key != TypeKind::Int && key != TypeKind::Enum && key != TypeKind::Error) return Fail("the keys of a map are String, Int or an enum");
      out = types.Map(a, b);
    } else if (const Value* pair = json.Find("pair")) {
      if (!two(*pair)) return false;
      out = types.Pair(a, b);
    } else if (json.Find("struct")) {
      uint32_t i = 0;
      if (!Index(json, "struct", i, types.structs().size())) return false;
      out = types.Struct(StructId{i});
    } else if (json.Find("enum")) {
      uint32_t i = 0;
      if (!Index(json, "enum", i, types.enums().size())) return false;
      out = types.Enum(EnumId{i});
    } else if (json.Find("instance")) {
      uint32_t i = 0;
      if (!Index(json, "instance", i, job_count_)) return false;
      out = types.Instance(i);
    } else if (const Value* refinement = json.Find("refinement")) {
      if (!Type(json, "base", a)) return false;
      Refinement r;
      Step step(*this, "refinement");
      if (!ReadRefinement(*refinement, r)) return false;
      RefinementId id = types.AddRefinement(std::move(r));
      predicates_.emplace_back(id, refinement);
      out = types.Refined(a, id);
    } else {
      return Fail("a type needs one of \"list\", \"map\", \"pair\", \"optional\", \"struct\", \"enum\", \"instance\", \"refinement\"");
    }
    uint32_t depth = 1 + std::max(depth_of(a), depth_of(b));
    if (depth > 256) return Fail("types are nested deeper than 256");
    type_depth_.resize(types.size());
    type_depth_[out.index] = std::max(type_depth_[out.index], depth);
    type_rows_.push_back(out);
    return true;
  }

  bool ReadRefinement(const Value& json, Refinement& r) {
    if (!Object(json, {"high", "kind", "low", "pattern", "predicate", "text"})) return false;
    if (!Word(json, "kind", r.kind, 4, RefinementKindName) || !Text(json, "text", r.text)) return false;
    switch (r.kind) {
      case RefinementKind::IntRange:
        return OptionalInt(json, "low", r.int_low, INT64_MIN) && OptionalInt(json, "high", r.int_high, INT64_MIN);
      case RefinementKind::FloatRange: {
        double value = 0;
        if (json.Find("low")) {
          if (!Number(json, "low", value)) return false;
          r.float_low = value;
        }
        if (json.Find("high")) {
          if (!Number(json, "high", value)) return false;
          r.float_high = value;
        }
        return true;
      }
      case RefinementKind::Pattern:
        return Text(json, "pattern", r.pattern);
      case RefinementKind::Predicate:
        return json.Find("predicate") || Missing("predicate");  // read when the shared expressions are known
    }
    return true;
  }

  // ---- Values ----------------------------------------------------------------------------------------------------------

  bool JsonOnly(const Value& json, Value& out) {
    out = json;
    return true;
  }

  bool ReadValue(const Value& json, TypeId type, Value& out, int depth = 0) {
    if (depth > 600) return Fail("a value is nested too deeply");
    const TypeTable& types = plan.program.types;
    const TypeNode node = types[type];
    auto expected = [&] { return Fail(fmt::format("this is not the text of a {}", types.Show(type))); };
    switch (node.kind) {
      case TypeKind::Optional:
        if (json.is_null()) {
          out = Value();
          return true;
        }
        return ReadValue(json, node.a, out, depth + 1);
      case TypeKind::Null:
        return json.is_null() || expected();
      case TypeKind::Bool:
        if (json.kind() != ValueKind::Bool) return expected();
        out = json;
        return true;
      case TypeKind::Int:
        if (json.kind() != ValueKind::Int) return expected();
        out = json;
        return true;
      case TypeKind::Bytes:
        if (json.kind() != ValueKind::Int) return expected();
        out = Value::Bytes(json.as_int());
        return true;
      case TypeKind::Float:
        if (json.kind() != ValueKind::Int && json.kind() != ValueKind::Float) return expected();
        out = Value::Float(json.as_float());
        return true;
      case TypeKind::String: case TypeKind::Regex:
        if (json.kind() != ValueKind::String) return expected();
        out = json;
        return true;
      case TypeKind::Duration: {
        int64_t milliseconds = 0;
        if (json.kind() != ValueKind::String || !ParseDuration(json.as_string(), milliseconds)) return expected();
        out = Value::Duration(milliseconds);
        return true;
      }
      case TypeKind::Json:
        return JsonOnly(json, out);
      case TypeKind::File: case TypeKind::Dir: {
        FileValue file;
        if (!Object(json, {"base", "path", "row", "text"}) || !Word(json, "base", file.base, kFileBases, FileBaseName) || !Text(json, "path", file.path)) return false;
        if (file.base == FileBase::Text) {
          std::string name = file.path, text, why;
          if (!Text(json, "text", text)) return false;
          if (node.kind != TypeKind::File || !MakeTextFile(std::move(name), std::move(text), file, why)) return Fail("this is no file with a text");
          out = Value::File(std::move(file));
          return true;
        }
        if (json.Find("row") && !Index(json, "row", file.row, plan.files.size())) return false;
        file.is_dir = node.kind == TypeKind::Dir;
        out = Value::File(std::move(file));
        return true;
      }
      case TypeKind::Enum: {
        const std::vector<std::string>& cases = types[EnumId{node.def}].cases;
        if (json.kind() != ValueKind::String) return expected();
        auto it = std::find(cases.begin(), cases.end(), json.as_string());
        if (it == cases.end()) return expected();
        out = Value::Enum(static_cast<uint32_t>(it - cases.begin()));
        return true;
      }
      case TypeKind::List: case TypeKind::Args: case TypeKind::Range: {
        if (json.kind() != ValueKind::List) return expected();
        if (node.kind == TypeKind::Range && json.as_list().size() != 2) return expected();
        TypeId element = node.kind == TypeKind::List ? node.a : types.Basic(node.kind == TypeKind::Args ? TypeKind::String : TypeKind::Int);
        ListValue list(json.as_list().size());
        for (size_t i = 0; i < list.size(); ++i) {
          Step step(*this, {}, i);
          if (!ReadValue(json.as_list()[i], element, list[i], depth + 1)) return false;
        }
        out = Value::List(std::move(list));
        return true;
      }
      case TypeKind::Map: {
        if (json.kind() != ValueKind::Map) return expected();
        MapValue map;
        map.reserve(json.as_map().size());
        for (const auto& [key, item] : json.as_map()) {
          map.emplace_back();
          Step step(*this, key.as_string());
          if (!ReadKey(key.as_string(), node.a, map.back().first) || !ReadValue(item, node.b, map.back().second, depth + 1)) return false;
        }
        out = Value::MapFrom(std::move(map));
        return true;
      }
      case TypeKind::Pair: {
        if (!Object(json, {"first", "second"})) return false;
        const Value* first = json.Find("first");
        const Value* second = json.Find("second");
        if (!first || !second) return expected();
        ListValue pair(2);
        if (!ReadValue(*first, node.a, pair[0], depth + 1) || !ReadValue(*second, node.b, pair[1], depth + 1)) return false;
        out = Value::List(std::move(pair));
        return true;
      }
      case TypeKind::Struct: {
        if (json.kind() != ValueKind::Map) return expected();
        const StructDef& def = types[StructId{node.def}];
        if (json.as_map().size() != def.fields.size()) return expected();
        ListValue fields(def.fields.size());
        for (size_t i = 0; i < fields.size(); ++i) {
          const Value* item = json.Find(def.fields[i].name);
          if (!item) return Missing(def.fields[i].name);
          Step step(*this, def.fields[i].name);
          if (!ReadValue(*item, def.fields[i].type, fields[i], depth + 1)) return false;
        }
        out = Value::List(std::move(fields));
        return true;
      }
      case TypeKind::Error: case TypeKind::Secret: case TypeKind::Instance:
        return Fail(fmt::format("a plan holds no values of type {}", types.Show(type)));
    }
    return expected();
  }

  bool ReadKey(const std::string& text, TypeId type, Value& out) {
    TypeKind kind = plan.program.types.kind(type);
    if (kind != TypeKind::Int) return ReadValue(Value::String(text), kind == TypeKind::Enum ? type : plan.program.types.Basic(TypeKind::String), out);
    int64_t value = 0;
    auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (code != std::errc() || end != text.data() + text.size() || std::to_string(value) != text) return Fail("the key is not an Int");
    out = Value::Int(value);
    return true;
  }

  // ---- Expressions -----------------------------------------------------------------------------------------------------

  /// What a node needs of the job that uses it: bounds checked when the jobs are known.
  struct Needs {
    uint32_t inputs = 0, outputs = 0, vars = 0;
  };

  bool ExprOf(const Value& json, ExprId& out) {
    if (json.kind() != ValueKind::Map) return Fail("expected an expression");
    if (const Value* ref = json.Find("ref")) {
      if (json.as_map().size() != 1 || ref->kind() != ValueKind::Int || ref->as_int() < 0 ||
          static_cast<uint64_t>(ref->as_int()) >= shared_.size()) {
        return Fail("\"ref\" must name an earlier row of \"shared\"");
      }
      out = shared_[static_cast<size_t>(ref->as_int())];
      return true;
    }
    return Node(json, out);
  }

  bool Expr(const Value& json, std::string_view key, ExprId& out, bool required = false, Kinds kinds = {}) {
    const Value* value = json.Find(key);
    if (!value) return !required || Missing(key);
    Step step(*this, key);
    if (!ExprOf(*value, out)) return false;
    if (kinds.size() == 0) return true;
    const TypeTable& types = plan.program.types;
    TypeKind kind = types.kind(types.NonNull(plan.program.exprs[out].type));
    if (std::find(kinds.begin(), kinds.end(), kind) != kinds.end() || kind == TypeKind::Null) return true;
    return Fail(fmt::format("an expression of type {} cannot stand here", types.Show(plan.program.exprs[out].type)));
  }

  bool Exprs(const Value& json, std::string_view key, std::vector<ExprId>& out) {
    return List(json, key, [&](const Value& item) {
      out.emplace_back();
      return ExprOf(item, out.back());
    });
  }

  bool Node(const Value& json, ExprId& out) {
    ExprPool& exprs = plan.program.exprs;
    Op op = Op::Error;
    if (!Word(json, "op", op, kOpCount, OpName)) return false;
    if (op == Op::Error) return Fail("\"op\" cannot be \"error\"");
    TypeId type;
    if (!Type(json, "type", type)) return false;
    const OpShape& shape = ShapeOf(op);
    std::string_view a_name = shape.a == Imm::None ? std::string_view("op") : ImmName(shape.a);
    std::string_view b_name = shape.b == Imm::None ? std::string_view("op") : ImmName(shape.b);
    if (!Object(json, {"args", "op", "type", a_name, b_name})) return false;
    std::vector<ExprId> args;
    if (!Exprs(json, "args", args)) return false;
    if (args.size() < shape.min_args || (shape.max_args != kManyArgs && args.size() > shape.max_args)) {
      return Fail(fmt::format("\"{}\" cannot have {} arguments", OpName(op), args.size()));
    }
    if (op == Op::Map && args.size() % 2 != 0) return Fail("a map needs a value for each key");
    uint32_t height = 1;
    Needs needs;
    for (ExprId arg : args) {
      height = std::max(height, heights_[arg.index] + 1);
      const Needs& inner = needs_[arg.index];
      needs.inputs = std::max(needs.inputs, inner.inputs);
      needs.outputs = std::max(needs.outputs, inner.outputs);
      needs.vars = std::max(needs.vars, inner.vars);
    }
    if (height > kMaxHeight) return Fail("expressions are nested too deeply");
    uint32_t a = 0, b = 0;
    if (!Immediate(json, shape.a, type, a)) return false;
    bool has_type = shape.b == Imm::OfType && op == Op::Call
                        ? static_cast<Builtin>(a) == Builtin::parse_json || static_cast<Builtin>(a) == Builtin::decode
                        : true;
    if (has_type && !Immediate(json, shape.b, type, b)) return false;
    if (!has_type && json.Find(b_name)) return Fail(fmt::format("\"{}\" takes no type", BuiltinName(static_cast<Builtin>(a))));
    switch (op) {
      case Op::Input: needs.inputs = std::max(needs.inputs, a + 1); break;
      case Op::OutputPath: case Op::OutputValue: needs.outputs = std::max(needs.outputs, a + 1); break;
      case Op::Var: needs.vars = std::max(needs.vars, a + 1); break;
      default: break;
    }
    out = exprs.Add(op, type, a, b, args.data(), args.size());
    heights_.push_back(height);
    needs_.push_back(needs);
    return true;
  }

  bool Immediate(const Value& json, Imm imm, TypeId type, uint32_t& out) {
    std::string_view key = ImmName(imm);
    ExprPool& exprs = plan.program.exprs;
    switch (imm) {
      case Imm::None:
        return true;
      case Imm::Const: {
        const Value* value = json.Find(key);
        if (!value) return Missing(key);
        Value constant;
        Step step(*this, key);
        if (!ReadValue(*value, type, constant)) return false;
        out = exprs.AddConstant(std::move(constant));
        return true;
      }
      case Imm::Key: case Imm::Directory: case Imm::PlaceName: {
        std::string text;
        if (!Text(json, key, text)) return false;
        out = exprs.AddConstant(Value::String(std::move(text)));
        return true;
      }
      case Imm::Slot: return Index(json, key, out, kMaxSlots - 1);
      case Imm::Names: {
        int64_t names = 0;
        if (!Int(json, key, names, 1, 2)) return false;
        out = static_cast<uint32_t>(names);
        return true;
      }
      case Imm::Resource: return Enumerator<ResourceKind>(json, key, kResourceKinds, ResourceName, out);
      case Imm::Status: return Enumerator<StatusField>(json, key, kStatusFields, StatusFieldName, out);
      case Imm::RunField: return Enumerator<RunFieldKind>(json, key, kRunFields, RunFieldName, out);
      case Imm::Prev: return Enumerator<PrevKind>(json, key, kPrevKinds, PrevName, out);
      case Imm::Base: return Enumerator<FileBase>(json, key, kFileBases, FileBaseName, out);
      case Imm::Function: return Enumerator<Builtin>(json, key, kBuiltinCount, BuiltinName, out);
      case Imm::Param: return Index(json, key, out, param_count_);
      case Imm::Let: return Index(json, key, out, let_count_);
      case Imm::Fn: return Index(json, key, out, fn_count_);
      case Imm::Secret: return Index(json, key, out, secret_count_);
      case Imm::Job: return Index(json, key, out, job_count_);
      case Imm::Var: case Imm::Input: case Imm::Output: case Imm::OwnOutput: case Imm::Member:
        return Index(json, key, out, kMaxIndex);  // against what it refers to: CheckNodes
      case Imm::OfType: {
        TypeId of;
        if (!Type(json, key, of)) return false;
        out = of.index;
        return true;
      }
    }
    return true;
  }

  template <typename E, typename NameOf>
  bool Enumerator(const Value& json, std::string_view key, uint32_t count, NameOf name_of, uint32_t& out) {
    E value{};
    if (!Word(json, key, value, count, name_of)) return false;
    out = static_cast<uint32_t>(value);
    return true;
  }

  // ---- The plan --------------------------------------------------------------------------------------------------------

  size_t CountOf(const Value& root, std::string_view key) {
    const Value* list = root.Find(key);
    return list && list->kind() == ValueKind::List ? list->as_list().size() : 0;
  }

  bool ReadRoot(const Value& root) {
    if (!Object(root, {"bounds", "enums", "exports", "files", "fns", "format", "functions", "jobs", "lets", "limits", "max_parallel", "minor", "on_error",
                       "params", "pools", "profile", "publish", "secrets", "shared", "sources", "structs", "types"})) {
      return false;
    }
    Program& program = plan.program;
    job_count_ = CountOf(root, "jobs");
    param_count_ = CountOf(root, "params");
    let_count_ = CountOf(root, "lets");
    fn_count_ = CountOf(root, "fns");
    secret_count_ = CountOf(root, "secrets");
    bool ok = Text(root, "profile", plan.profile) &&
              List(root, "sources", [&](const Value& json) {
                SourceRow row;
                if (!Object(json, {"name", "sha256"}) || !Text(json, "name", row.name) || !Text(json, "sha256", row.sha256)) return false;
                plan.sources.push_back(std::move(row));
                return true;
              }) &&
              List(root, "files", [&](const Value& json) {
                FileRow row;
                int64_t size = 0;
                if (!Object(json, {"base", "dir", "etag", "path", "sha256", "size", "version"}) || !Word(json, "base", row.base, kFileBases, FileBaseName) ||
                    !Flag(json, "dir", row.is_dir) || !Text(json, "path", row.path) || !Text(json, "sha256", row.sha256, false) ||
                    !Text(json, "etag", row.etag, false) || !Text(json, "version", row.version, false) ||
                    !Int(json, "size", size, 0, INT64_MAX)) {
                  return false;
                }
                if (row.base == FileBase::Text) return Fail("a file with a text has no row");
                row.size = static_cast<uint64_t>(size);
                plan.files.push_back(std::move(row));
                return true;
              }) &&
              List(root, "enums", [&](const Value& json) {
                EnumDef def;
                if (!Object(json, {"cases", "name"}) || !Text(json, "name", def.name)) return false;
                if (!List(json, "cases", [&](const Value& name) {
                      if (name.kind() != ValueKind::String) return Fail("the name of a case is a text");
                      if (std::find(def.cases.begin(), def.cases.end(), name.as_string()) != def.cases.end()) return Fail("a case is given twice");
                      def.cases.push_back(name.as_string());
                      return true;
                    })) {
                  return false;
                }
                if (def.cases.empty()) return Fail("an enum needs cases");
                program.types.AddEnum(std::move(def));
                return true;
              }) &&
              List(root, "structs", [&](const Value& json) {
                StructDef def;
                if (!Object(json, {"fields", "name", "open"}) || !Text(json, "name", def.name) || !Flag(json, "open", def.open)) return false;
                program.types.AddStruct(std::move(def));
                return true;
              }) &&
              List(root, "types", [&](const Value& json) { return ReadTypeRow(json); }) &&
              ReadFieldTypes(root);
    if (!ok) return false;
    ok = List(root, "shared", [&](const Value& json) {
           ExprId id;
           if (!Node(json, id)) return false;
           shared_.push_back(id);
           return true;
         }) &&
         ReadStructFallbacks(root) && ReadPredicates() &&
         List(root, "secrets", [&](const Value& json) {
           struct Secret secret;
           if (!Object(json, {"carrier", "name", "source"}) || !Word(json, "carrier", secret.carrier, 3, CarrierName) ||
               !Text(json, "name", secret.name) || !Text(json, "source", secret.source)) {
             return false;
           }
           program.secrets.push_back(std::move(secret));
           return true;
         }) &&
         List(root, "params", [&](const Value& json) {
           Param param;
           if (!Object(json, {"doc", "fallback", "name", "origin", "type", "value"}) || !Text(json, "doc", param.doc, false) ||
               !Global(json, "fallback", param.fallback, false) || !Text(json, "name", param.name) ||
               !Text(json, "origin", param.origin, false) || !Type(json, "type", param.type)) {
             return false;
           }
           if (const Value* value = json.Find("value")) {
             Value typed;
             Step step(*this, "value");
             if (!ReadValue(*value, param.type, typed)) return false;
             param.value = std::move(typed);
           }
           program.params.push_back(std::move(param));
           return true;
         }) &&
         List(root, "lets", [&](const Value& json) {
           Let let;
           if (!Object(json, {"memo", "name", "value"}) || !Flag(json, "memo", let.memo, true) || !Text(json, "name", let.name) ||
               !Global(json, "value", let.value, true)) {
             return false;
           }
           program.lets.push_back(std::move(let));
           return true;
         }) &&
         List(root, "fns", [&](const Value& json) {
           Fn fn;
           int64_t params = 0, locals = 0;
           if (!Object(json, {"body", "locals", "name", "params"}) || !Global(json, "body", fn.body, true) ||
               !Int(json, "locals", locals, 0, kMaxSlots) || !Text(json, "name", fn.name) || !Int(json, "params", params, 0, locals)) {
             return false;
           }
           fn.params = static_cast<uint32_t>(params);
           fn.locals = static_cast<uint32_t>(locals);
           program.fns.push_back(std::move(fn));
           return true;
         }) &&
         List(root, "pools", [&](const Value& json) {
           Pool pool;
           if (!Object(json, {"name", "slots"}) || !Text(json, "name", pool.name) || !Expr(json, "slots", pool.slots, true, {TypeKind::Int})) return false;
           plan.pools.push_back(std::move(pool));
           return true;
         }) &&
         List(root, "jobs", [&](const Value& json) {
           plan.jobs.emplace_back();
           return ReadJob(json, plan.jobs.back());
         }) &&
         List(root, "exports", [&](const Value& json) {
           Export e;
           if (!Object(json, {"at", "name", "type", "value"}) || !At(json, e.at) || !Text(json, "name", e.name) || !Type(json, "type", e.type) ||
               !Global(json, "value", e.value, true)) {
             return false;
           }
           plan.exports.push_back(std::move(e));
           return true;
         }) &&
         List(root, "publish", [&](const Value& json) {
           Publish publish;
           if (!Object(json, {"destination", "entries", "prune"}) || !Text(json, "destination", publish.destination) || !Flag(json, "prune", publish.prune)) return false;
           if (!List(json, "entries", [&](const Value& entry) {
                 PublishEntry e;
                 if (!Object(entry, {"at", "path", "type", "value"}) || !At(entry, e.at) || !Expr(entry, "path", e.path, true, {TypeKind::String}) ||
                     !Type(entry, "type", e.type) || !Global(entry, "value", e.value, true)) {
                   return false;
                 }
                 publish.entries.push_back(std::move(e));
                 return true;
               })) {
             return false;
           }
           plan.publishes.push_back(std::move(publish));
           return true;
         }) &&
         Global(root, "max_parallel", plan.max_parallel, false);
    if (!ok) return false;
    if (root.Find("on_error")) {
      Strategy strategy{};
      if (!Word(root, "on_error", strategy, 4, StrategyName)) return false;
      plan.on_error = strategy;
    }
    if (!ReadBounds(root, plan.bounds)) return false;
    if (const Value* limits = root.Find("limits")) {
      Step step(*this, "limits");
      if (!Object(*limits, {"attempts", "instances", "keep_ms", "time_ms"}) || !OptionalInt(*limits, "keep_ms", plan.limits.keep_ms, 0) || !OptionalInt(*limits, "attempts", plan.limits.attempts, 0) ||
          !OptionalInt(*limits, "instances", plan.limits.instances, 0) || !OptionalInt(*limits, "time_ms", plan.limits.time_ms, 0)) {
        return false;
      }
    }
    return true;
  }

  /// An expression that does not belong to a job.
  bool Global(const Value& json, std::string_view key, ExprId& out, bool required) {
    if (!Expr(json, key, out, required)) return false;
    if (!out.valid()) return true;
    const Needs& needs = needs_[out.index];
    if (needs.inputs + needs.outputs + needs.vars > 0) {
      Step step(*this, key);
      return Fail("an expression outside of jobs uses inputs, outputs or loop variables of one");
    }
    return true;
  }

  bool ReadFieldTypes(const Value& root) {
    uint32_t i = 0;
    return List(root, "structs", [&](const Value& json) {
      StructId id{i++};
      return List(json, "fields", [&](const Value& item) {
        Field field;
        if (!Object(item, {"doc", "fallback", "name", "type"}) || !Text(item, "doc", field.doc, false) || !Name(item, "name", field.name) ||
            !Type(item, "type", field.type)) {
          return false;
        }
        for (const Field& other : plan.program.types[id].fields) {
          if (other.name == field.name) return Fail("a field is given twice");
        }
        plan.program.types.MutableStruct(id).fields.push_back(std::move(field));
        return true;
      });
    }) && CheckStructs();
  }

  /// No struct contains itself, so values and everything that walks types are finite.
  bool CheckStructs() {
    const TypeTable& types = plan.program.types;
    size_t count = types.structs().size();
    std::vector<std::vector<uint32_t>> inside(count);
    for (uint32_t i = 0; i < count; ++i) {
      std::vector<TypeId> todo;
      for (const Field& field : types[StructId{i}].fields) todo.push_back(field.type);
      while (!todo.empty()) {
        const TypeNode& node = types[todo.back()];
        todo.pop_back();
        if (node.kind == TypeKind::Struct) inside[i].push_back(node.def);
        if (node.a.valid()) todo.push_back(node.a);
        if (node.b.valid()) todo.push_back(node.b);
      }
    }
    std::vector<uint32_t> depth;
    if (!Acyclic(count, [&](uint32_t v, auto visit) { for (uint32_t w : inside[v]) visit(w); }, depth)) return Fail("a struct contains itself");
    for (uint32_t d : depth) {
      if (d > 64) return Fail("structs are nested deeper than 64");
    }
    return true;
  }

  bool ReadStructFallbacks(const Value& root) {
    uint32_t i = 0;
    return List(root, "structs", [&](const Value& json) {
      StructId id{i++};
      size_t f = 0;
      return List(json, "fields", [&](const Value& item) {
        ExprId fallback;
        if (!Global(item, "fallback", fallback, false)) return false;
        plan.program.types.MutableStruct(id).fields[f++].fallback = fallback;
        return true;
      });
    });
  }

  bool ReadPredicates() {
    for (const auto& [id, json] : predicates_) {
      if (plan.program.types[id].kind != RefinementKind::Predicate) continue;
      ExprId predicate;
      Step step(*this, "types");
      if (!Global(*json, "predicate", predicate, true)) return false;
      plan.program.types.MutableRefinement(id).predicate = predicate;
    }
    return true;
  }

  bool At(const Value& json, Position& out) {
    const Value* at = json.Find("at");
    if (!at) return true;
    Step step(*this, "at");
    if (at->kind() != ValueKind::List || at->as_list().size() != 3) return Fail("a position is [source, line, column]");
    uint32_t parts[3];
    for (size_t i = 0; i < 3; ++i) {
      const Value& part = at->as_list()[i];
      if (part.kind() != ValueKind::Int || part.as_int() < 0 || part.as_int() > kMaxIndex) return Fail("a position is [source, line, column]");
      parts[i] = static_cast<uint32_t>(part.as_int());
    }
    if (parts[0] >= plan.sources.size()) return Fail("the position names a source that does not exist");
    out = {parts[0], parts[1], parts[2]};
    return true;
  }

  bool ReadNamed(const Value& json, std::string_view key, std::vector<NamedExpr>& out) {
    return List(json, key, [&](const Value& item) {
      NamedExpr named;
      if (!Object(item, {"name", "value"}) || !Text(item, "name", named.name) || !Expr(item, "value", named.value, true)) return false;
      out.push_back(std::move(named));
      return true;
    });
  }

  bool ReadBackoff(const Value& json, std::string_view key, Backoff& out) {
    const Value* value = json.Find(key);
    if (!value) return true;
    Step step(*this, key);
    std::string jitter;
    if (!Object(*value, {"base", "factor", "jitter", "kind", "max"}) || !Expr(*value, "base", out.base, false, {TypeKind::Duration}) ||
        !Number(*value, "factor", out.factor) || !Text(*value, "jitter", jitter) || !Word(*value, "kind", out.kind, 3, BackoffName) ||
        !Expr(*value, "max", out.max, false, {TypeKind::Duration})) {
      return false;
    }
    if (jitter != "full" && jitter != "none") return Fail("\"jitter\" must be \"full\" or \"none\"");
    out.full_jitter = jitter == "full";
    return true;
  }

  bool ReadResources(const Value& json, ResourceSpec& out) {
    const Value* value = json.Find("resources");
    if (!value) return true;
    Step step(*this, "resources");
    return Object(*value, {"cpu", "disk", "gpu", "memory", "spot"}) &&
           Expr(*value, "cpu", out.cpu, false, {TypeKind::Int, TypeKind::Float}) && Expr(*value, "disk", out.disk, false, {TypeKind::Bytes}) &&
           Expr(*value, "gpu", out.gpu, false, {TypeKind::Int, TypeKind::Float}) && Expr(*value, "memory", out.memory, false, {TypeKind::Bytes}) &&
           Expr(*value, "spot", out.spot, false, {TypeKind::Bool});
  }

  bool ReadTimeout(const Value& json, TimeoutSpec& out) {
    const Value* value = json.Find("timeout");
    if (!value) return true;
    Step step(*this, "timeout");
    return Object(*value, {"collect", "idle", "queue", "run", "stage", "total"}) && Expr(*value, "collect", out.collect, false, {TypeKind::Duration}) &&
           Expr(*value, "stage", out.stage, false, {TypeKind::Duration}) && Expr(*value, "idle", out.idle, false, {TypeKind::Duration}) &&
           Expr(*value, "queue", out.queue, false, {TypeKind::Duration}) && Expr(*value, "run", out.run, false, {TypeKind::Duration}) &&
           Expr(*value, "total", out.total, false, {TypeKind::Duration});
  }

  bool ReadMatchers(const Value& json, std::string_view key, std::vector<Matcher>& out) {
    return List(json, key, [&](const Value& item) {
      if (!Object(item, {"class", "kind", "name"})) return false;
      if (item.as_map().size() != 1 && !newer_) return Fail("a matcher has exactly one of \"kind\", \"class\", \"name\"");
      Matcher matcher;
      if (item.Find("kind")) {
        ErrorKind kind{};
        if (!Word(item, "kind", kind, kErrorKinds, KindName)) return false;
        matcher.kind = kind;
      } else if (item.Find("class")) {
        ErrorClass c{};
        if (!Word(item, "class", c, 4, ClassName)) return false;
        matcher.error_class = c;
      } else if (!Text(item, "name", matcher.name)) {
        return false;
      }
      out.push_back(std::move(matcher));
      return true;
    });
  }

  bool ReadFact(const Value& json, Fact& out, int depth) {
    if (depth > 256) return Fail("facts are nested too deeply");
    if (!Object(json, {"and", "exit", "not", "or", "signal", "stderr", "stdout"})) return false;
    auto operands = [&](std::string_view key, Fact::Kind kind, size_t low, size_t high) {
      out.kind = kind;
      if (!List(json, key, [&](const Value& item) {
            out.operands.emplace_back();
            return ReadFact(item, out.operands.back(), depth + 1);
          })) {
        return false;
      }
      return (out.operands.size() >= low && out.operands.size() <= high) || Fail(fmt::format("\"{}\" has the wrong number of facts", key));
    };
    if (const Value* exit = json.Find("exit")) {
      if (exit->kind() != ValueKind::List || exit->as_list().size() != 2) return Fail("\"exit\" is [low, high]");
      int* ends[] = {&out.low, &out.high};
      for (size_t i = 0; i < 2; ++i) {
        const Value& end = exit->as_list()[i];
        if (end.kind() != ValueKind::Int || end.as_int() < 0 || end.as_int() > 255) return Fail("an exit code is 0 to 255");
        *ends[i] = static_cast<int>(end.as_int());
      }
      return true;
    }
    if (json.Find("signal")) {
      int64_t signal = 0;
      out.kind = Fact::Kind::Signal;
      if (!Int(json, "signal", signal, 1, 127)) return false;
      out.low = static_cast<int>(signal);
      return true;
    }
    if (json.Find("stdout")) {
      out.kind = Fact::Kind::Stdout;
      return Text(json, "stdout", out.pattern);
    }
    if (json.Find("stderr")) {
      out.kind = Fact::Kind::Stderr;
      return Text(json, "stderr", out.pattern);
    }
    if (json.Find("and")) return operands("and", Fact::Kind::And, 1, SIZE_MAX);
    if (json.Find("or")) return operands("or", Fact::Kind::Or, 1, SIZE_MAX);
    if (json.Find("not")) return operands("not", Fact::Kind::Not, 1, 1);
    return Fail("a fact needs one of \"exit\", \"signal\", \"stdout\", \"stderr\", \"and\", \"or\", \"not\"");
  }

  bool ReadScript(const Value& json, std::string_view key, std::optional<Script>& out) {
    const Value* value = json.Find(key);
    if (!value) return true;
    Step step(*this, key);
    Script script;
    int64_t interpreter = 0;
    if (!Object(*value, {"bindings", "interpreter", "lowered", "sha256", "text"}) || !Int(*value, "interpreter", interpreter, 0, 255) ||
        !Text(*value, "lowered", script.lowered, false) || !Text(*value, "sha256", script.sha256) || !Text(*value, "text", script.text)) {
      return false;
    }
    script.interpreter = static_cast<uint8_t>(interpreter);
    if (!List(*value, "bindings", [&](const Value& item) {
          ScriptBinding binding;
          if (!Object(item, {"hole", "splice", "type", "value"}) || !Index(item, "hole", binding.hole, kMaxIndex) ||
              !Flag(item, "splice", binding.splice) || !Type(item, "type", binding.type) || !Expr(item, "value", binding.value, true)) {
            return false;
          }
          script.bindings.push_back(std::move(binding));
          return true;
        })) {
      return false;
    }
    out = std::move(script);
    return true;
  }

  bool ReadDomain(const Value& json, Domain& out) {
    const Value* value = json.Find("domain");
    if (!value) return true;
    Step step(*this, "domain");
    if (!Object(*value, {"axes", "count", "dynamic", "excluded", "key", "key_kind", "key_type", "list", "max", "name", "name2", "two_names", "type", "type2"})) return false;
    return List(*value, "axes", [&](const Value& item) {
             Axis axis;
             if (!Object(item, {"name", "type", "values"}) || !Text(item, "name", axis.name) || !Type(item, "type", axis.type) ||
                 !Expr(item, "values", axis.values, true, {TypeKind::List})) {
               return false;
             }
             out.axes.push_back(std::move(axis));
             return true;
           }) &&
           OptionalInt(*value, "count", out.count, 0) && Flag(*value, "dynamic", out.dynamic) &&
           List(*value, "excluded", [&](const Value& row) {
             out.excluded.emplace_back();
             return Elements(row, [&](const Value& cell) {
               uint32_t axis = 0;
               ExprId expr;
               if (!Object(cell, {"axis", "value"}) || !Index(cell, "axis", axis, out.axes.size()) || !Expr(cell, "value", expr, true)) return false;
               out.excluded.back().emplace_back(axis, expr);
               return true;
             });
           }) &&
           Expr(*value, "key", out.key, false, {TypeKind::String, TypeKind::Int, TypeKind::Enum}) && Word(*value, "key_kind", out.key_kind, 5, KeyKindName) &&
           Type(*value, "key_type", out.key_type, false) && Expr(*value, "list", out.list, false, {TypeKind::List, TypeKind::Map, TypeKind::Range}) &&
           OptionalInt(*value, "max", out.max, 0) && Text(*value, "name", out.name, false) && Text(*value, "name2", out.name2, false) &&
           Flag(*value, "two_names", out.two_names) && Type(*value, "type", out.type, false) && Type(*value, "type2", out.type2, false);
  }

  bool ReadBounds(const Value& json, std::optional<WorstCase>& out) {
    const Value* value = json.Find("bounds");
    if (!value) return true;
    Step step(*this, "bounds");
    out.emplace();
    int64_t instances = 0;
    if (!Object(*value, {"attempts", "attempts_of_one", "instances", "slots", "time_ms"}) || !Int(*value, "attempts", out->attempts, 0, INT64_MAX) ||
        !Int(*value, "instances", instances, 0, INT64_MAX) || !OptionalInt(*value, "time_ms", out->time_ms, 0)) {
      return false;
    }
    out->instances = static_cast<uint64_t>(instances);
    if (value->Find("attempts_of_one") != nullptr && !Int(*value, "attempts_of_one", out->attempts_of_one, 1, INT64_MAX)) return false;
    return List(*value, "slots", [&](const Value& item) {
      uint32_t pool = 0;
      int64_t slots = 0;
      if (!Object(item, {"pool", "slots"}) || !Index(item, "pool", pool, plan.pools.size()) || !Int(item, "slots", slots, 0, INT64_MAX)) return false;
      out->slots.emplace_back(pool, slots);
      return true;
    });
  }

  bool ReadRetry(const Value& json, Retry& out) {
    const Value* value = json.Find("retry");
    if (!value) return true;
    Step step(*this, "retry");
    if (!Object(*value, {"backoff", "max_attempts", "never", "on", "rules"}) || !ReadBackoff(*value, "backoff", out.backoff) ||
        !Int(*value, "max_attempts", out.max_attempts, 1, INT64_MAX) || !ReadMatchers(*value, "never", out.never)) {
      return false;
    }
    out.has_on = value->Find("on") != nullptr;
    return ReadMatchers(*value, "on", out.on) && List(*value, "rules", [&](const Value& item) {
             RetryRule rule;
             if (!Object(item, {"backoff", "delay", "matchers", "resources", "retries", "timeout"}) ||
                 !Expr(item, "delay", rule.delay, false, {TypeKind::Duration}) || !ReadMatchers(item, "matchers", rule.matchers) ||
                 !ReadResources(item, rule.resources) || !OptionalInt(item, "retries", rule.retries, 0) || !ReadTimeout(item, rule.timeout)) {
               return false;
             }
             if (item.Find("backoff")) {
               rule.backoff.emplace();
               if (!ReadBackoff(item, "backoff", *rule.backoff)) return false;
             }
             out.rules.push_back(std::move(rule));
             return true;
           });
  }

  bool ReadJob(const Value& json, Job& job) {
    if (!Object(json, {"action", "address", "after", "at", "backend", "bounds", "cache", "cache_salt", "dependencies", "doc", "domain", "env", "epilogue", "errors",
                       "grace", "hook_event", "image", "inherit_env", "inputs", "kind", "labels", "log_limit", "nullable", "on_error", "on_error_set",
                       "outputs", "pools", "priority", "prologue", "requires", "resources", "retry", "run", "script", "secret_files", "staging",
                       "submit", "timeout", "when"})) {
      return false;
    }
    bool ok =
        Word(json, "action", job.action, 4, ActionName, false) && Text(json, "address", job.address) &&
        List(json, "after", [&](const Value& item) {
          After after;
          if (!Object(item, {"indices", "job", "kind", "mapping"}) || !Exprs(item, "indices", after.indices) || !Index(item, "job", after.job, job_count_) ||
              !Word(item, "kind", after.kind, 3, AfterName) || !Word(item, "mapping", after.mapping, 4, MappingName)) {
            return false;
          }
          job.after.push_back(std::move(after));
          return true;
        }) &&
        At(json, job.at) && ReadBackend(json, job.backend) && ReadBounds(json, job.bounds) && Expr(json, "cache", job.cache, false, {TypeKind::Bool}) &&
        Expr(json, "cache_salt", job.cache_salt, false, {TypeKind::String}) &&
        List(json, "dependencies", [&](const Value& item) {
          Dependency d;
          if (!Object(item, {"condition", "indices", "job", "mapping", "order_only", "strong"}) || !Expr(item, "condition", d.condition, false, {TypeKind::Bool}) ||
              !Exprs(item, "indices", d.indices) || !Index(item, "job", d.job, job_count_) || !Word(item, "mapping", d.mapping, 4, MappingName) ||
              !Flag(item, "order_only", d.order_only) || !Flag(item, "strong", d.strong, true)) {
            return false;
          }
          job.dependencies.push_back(std::move(d));
          return true;
        }) &&
        Text(json, "doc", job.doc, false) && ReadDomain(json, job.domain) &&
        List(json, "env", [&](const Value& item) {
          EnvEntry entry;
          if (!Object(item, {"name", "type", "value"}) || !Text(item, "name", entry.name) || !Type(item, "type", entry.type) || !Expr(item, "value", entry.value, true)) return false;
          job.env.push_back(std::move(entry));
          return true;
        }) &&
        ReadScript(json, "epilogue", job.epilogue) &&
        List(json, "errors", [&](const Value& item) {
          ErrorArm arm;
          const Value* fact = item.kind() == ValueKind::Map ? item.Find("fact") : nullptr;
          if (!Object(item, {"class", "fact", "kind", "name", "success", "title"}) || !Word(item, "class", arm.error_class, 4, ClassName) ||
              !Word(item, "kind", arm.kind, kErrorKinds, KindName) || !Text(item, "name", arm.name, false) || !Flag(item, "success", arm.success) ||
              !Text(item, "title", arm.title, false)) {
            return false;
          }
          if (!fact) return Missing("fact");
          if (!ReadFact(*fact, arm.fact, 0)) return false;
          job.errors.push_back(std::move(arm));
          return true;
        }) &&
        Expr(json, "grace", job.grace, false, {TypeKind::Duration}) && Word(json, "hook_event", job.hook_event, 4, HookEventName, false) &&
        Expr(json, "image", job.image, false, {TypeKind::String}) &&
        List(json, "inherit_env", [&](const Value& item) {
          if (item.kind() != ValueKind::String) return Fail("expected the name of a variable");
          job.inherit_env.push_back(item.as_string());
          return true;
        }) &&
        List(json, "inputs", [&](const Value& item) {
          Input input;
          if (!Object(item, {"implicit", "name", "type", "value"}) || !Flag(item, "implicit", input.implicit) || !Text(item, "name", input.name) ||
              !Type(item, "type", input.type) || !Expr(item, "value", input.value, true)) {
            return false;
          }
          job.inputs.push_back(std::move(input));
          return true;
        }) &&
        Word(json, "kind", job.kind, 4, JobKindName) && ReadNamed(json, "labels", job.labels) && Expr(json, "log_limit", job.log_limit, false, {TypeKind::Bytes}) &&
        Flag(json, "nullable", job.nullable) && Word(json, "on_error", job.on_error, 4, StrategyName) && Flag(json, "on_error_set", job.on_error_set) &&
        List(json, "outputs", [&](const Value& item) {
          Output output;
          if (!Object(item, {"at", "doc", "fallback", "glob_max", "glob_min", "kind", "name", "type", "value"}) || !At(item, output.at) ||
              !Text(item, "doc", output.doc, false) || !Expr(item, "fallback", output.fallback) || !OptionalInt(item, "glob_max", output.glob_max, 0) ||
              !OptionalInt(item, "glob_min", output.glob_min, 0) || !Word(item, "kind", output.kind, 4, OutputKindName) || !Text(item, "name", output.name) ||
              !Type(item, "type", output.type)) {
            return false;
          }
          bool path = output.kind == OutputKind::Path || output.kind == OutputKind::Glob;
          if (!Expr(item, "value", output.value, output.kind != OutputKind::Json, path ? Kinds{TypeKind::String} : Kinds{})) return false;
          job.outputs.push_back(std::move(output));
          return true;
        }) &&
        List(json, "pools", [&](const Value& item) {
          uint32_t pool = 0;
          ExprId slots;
          if (!Object(item, {"pool", "slots"}) || !Index(item, "pool", pool, plan.pools.size()) || !Expr(item, "slots", slots, true, {TypeKind::Int})) return false;
          job.pools.emplace_back(pool, slots);
          return true;
        }) &&
        Expr(json, "priority", job.priority, false, {TypeKind::Int}) && ReadScript(json, "prologue", job.prologue) &&
        List(json, "requires", [&](const Value& item) {
          Require require;
          if (!Object(item, {"at", "condition", "message", "text"}) || !At(item, require.at) || !Expr(item, "condition", require.condition, true, {TypeKind::Bool}) ||
              !Expr(item, "message", require.message, false, {TypeKind::String}) || !Text(item, "text", require.text)) {
            return false;
          }
          job.requires_.push_back(std::move(require));
          return true;
        }) &&
        ReadResources(json, job.resources) && ReadRetry(json, job.retry) && Expr(json, "run", job.run, false, {TypeKind::List, TypeKind::Args}) &&
        ReadScript(json, "script", job.script) && ReadNamed(json, "secret_files", job.secret_files) &&
        Expr(json, "staging", job.staging, false, {TypeKind::String}) && ReadSubmit(json, job.submit) && ReadTimeout(json, job.timeout) &&
        Expr(json, "when", job.when, false, {TypeKind::Bool});
    if (!ok) return false;
    bool has_action = (job.action == ActionKind::Script) == job.script.has_value() &&
                      (job.action == ActionKind::Run || job.action == ActionKind::ImageArgs) == job.run.valid();
    return has_action || Fail("\"action\" does not fit \"run\" and \"script\"");
  }

  bool ReadBackend(const Value& json, Backend& out) {
    const Value* value = json.Find("backend");
    if (!value) return Missing("backend");
    Step step(*this, "backend");
    return Object(*value, {"kind", "options"}) && Word(*value, "kind", out.kind, kBackendKinds, BackendName) && ReadNamed(*value, "options", out.options);
  }

  bool ReadSubmit(const Value& json, Submit& out) {
    const Value* value = json.Find("submit");
    if (!value) return true;
    Step step(*this, "submit");
    return Object(*value, {"backoff", "max_attempts"}) && ReadBackoff(*value, "backoff", out.backoff) && Int(*value, "max_attempts", out.max_attempts, 1, INT64_MAX);
  }

  // ---- Checks over everything ------------------------------------------------------------------------------------------

  /// References to jobs' outputs, functions' parameters and instances; and what each job's expressions need of it.
  bool CheckNodes() {
    const Program& program = plan.program;
    for (uint32_t i = 0; i < program.exprs.size(); ++i) {
      const struct Expr& e = program.exprs[ExprId{i}];
      const OpShape& shape = ShapeOf(e.op);
      if (shape.a == Imm::Job && shape.b == Imm::Output && e.b >= plan.jobs[e.a].outputs.size()) {
        return Fail(fmt::format("an expression refers to output {} of `{}`, which does not exist", e.b, plan.jobs[e.a].address));
      }
      if (shape.a == Imm::Fn && program.fns[e.a].params != e.args.size) {
        return Fail(fmt::format("`{}` is called with {} arguments instead of {}", program.fns[e.a].name, e.args.size, program.fns[e.a].params));
      }
      if (e.op == Op::InstanceOutput) {
        const TypeNode& of = program.types[program.exprs[program.exprs.arg(e, 0)].type];
        if (of.kind != TypeKind::Instance || of.def >= plan.jobs.size() || e.b >= plan.jobs[of.def].outputs.size()) {
          return Fail("an expression refers to an output of an instance that does not exist");
        }
      }
    }
    for (size_t j = 0; j < plan.jobs.size(); ++j) {
      const Job& job = plan.jobs[j];
      Needs most;
      struct Visitor {
        const std::vector<Needs>& needs;
        Needs& most;
        void Type(TypeId) {}
        void Expr(ExprId id) {
          if (!id.valid()) return;
          most.inputs = std::max(most.inputs, needs[id.index].inputs);
          most.outputs = std::max(most.outputs, needs[id.index].outputs);
          most.vars = std::max(most.vars, needs[id.index].vars);
        }
      } visitor{needs_, most};
      VisitJob(job, visitor);
      size_t vars = 2 + job.domain.axes.size();
      if (most.inputs > job.inputs.size() || most.outputs > job.outputs.size() || most.vars > vars) {
        return Fail(fmt::format("`{}` uses an input, output or loop variable that it does not have", job.address));
      }
      for (const After& after : job.after) {
        if (after.job == j) return Fail(fmt::format("`{}` waits for itself", job.address));
      }
    }
    return true;
  }

  /// Depth-first, without recursion. `edges(v, visit)` calls `visit(w)`; `depth` is the longest path below each vertex.
  template <typename Edges>
  static bool Acyclic(size_t count, Edges edges, std::vector<uint32_t>& depth) {
    enum : uint8_t { kNew, kOpen, kDone };
    std::vector<uint8_t> state(count, kNew);
    depth.assign(count, 0);
    struct Frame {
      uint32_t vertex;
      size_t next;
      std::vector<uint32_t> targets;
    };
    std::vector<Frame> stack;
    auto open = [&](uint32_t v) {
      state[v] = kOpen;
      Frame frame{v, 0, {}};
      edges(v, [&](uint32_t w) { frame.targets.push_back(w); });
      stack.push_back(std::move(frame));
    };
    for (uint32_t root = 0; root < count; ++root) {
      if (state[root] != kNew) continue;
      open(root);
      while (!stack.empty()) {
        Frame& frame = stack.back();
        if (frame.next == frame.targets.size()) {
          state[frame.vertex] = kDone;
          uint32_t deepest = 0;
          for (uint32_t w : frame.targets) deepest = std::max(deepest, depth[w] + 1);
          depth[frame.vertex] = deepest;
          stack.pop_back();
          continue;
        }
        uint32_t w = frame.targets[frame.next++];
        if (state[w] == kOpen) return false;
        if (state[w] == kNew) open(w);
      }
    }
    return true;
  }

  bool CheckAcyclic() {
    const Program& program = plan.program;
    // Vertices: nodes, then lets, then functions.
    uint32_t nodes = static_cast<uint32_t>(program.exprs.size());
    uint32_t lets = nodes + static_cast<uint32_t>(program.lets.size());
    std::vector<uint32_t> depth;
    bool ok = Acyclic(lets + program.fns.size(), [&](uint32_t v, auto visit) {
      if (v >= lets) return visit(program.fns[v - lets].body.index);
      if (v >= nodes) return visit(program.lets[v - nodes].value.index);
      const struct Expr& e = program.exprs[ExprId{v}];
      for (uint32_t i = 0; i < e.args.size; ++i) visit(program.exprs.arg(e, i).index);
      if (e.op == Op::Let) visit(nodes + e.a);
      if (e.op == Op::Apply) visit(lets + e.a);
    }, depth);
    if (!ok) return Fail("a let or function uses itself");
    ok = Acyclic(plan.jobs.size(), [&](uint32_t v, auto visit) {
      for (const Dependency& d : plan.jobs[v].dependencies) visit(d.job);
      for (const After& after : plan.jobs[v].after) visit(after.job);
    }, depth);
    return ok || Fail("the dependencies of the jobs form a cycle");
  }

  std::vector<std::pair<std::string_view, size_t>> path_;
  bool newer_ = false;
  size_t job_count_ = 0, param_count_ = 0, let_count_ = 0, fn_count_ = 0, secret_count_ = 0;
  std::vector<TypeId> type_rows_;
  std::vector<uint32_t> type_depth_;
  std::vector<ExprId> shared_;
  std::vector<uint32_t> heights_;
  std::vector<Needs> needs_;
  std::vector<std::pair<RefinementId, const Value*>> predicates_;
};

}  // namespace

Result<Plan> ReadPlan(std::string_view text) {
  PlanReader reader;
  if (!reader.Read(text)) return Error{reader.error};
  return std::move(reader.plan);
}

}  // namespace jobc::ir
