// The writer of `jobc.plan/1`. One pass marks what the plan reaches (so that equal plans give equal texts whatever else
// lies in their pools), one pass writes text directly, without a document in memory. The reader is plan_read.cpp.
#include "ir/plan_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "ir/builtins.h"
#include "ir/evaluate.h"
#include "ir/json.h"
#include "ir/json_parse.h"
#include "ir/op_shape.h"
#include "ir/plan_names.h"
#include "ir/plan_visit.h"
#include "support/sha256.h"

namespace jobc::ir {
namespace {

/// Expressions higher than this are cut into shared nodes, so that the text is never nested deeply.
constexpr uint32_t kInlineHeight = 40;
/// Constants above this size are written once, even where they are used often.
constexpr size_t kInlineText = 64;

/// What of the pools the plan reaches, and under which number it is written.
class Reach {
 public:
  explicit Reach(const Plan& plan)
      : plan_(plan),
        program_(plan.program),
        uses_(program_.exprs.size()),
        height_(program_.exprs.size()),
        shared_(program_.exprs.size(), UINT32_MAX),
        types_(program_.types.size(), kUnseen),
        structs_(program_.types.structs().size(), kUnseen),
        enums_(program_.types.enums().size(), kUnseen),
        lets_(program_.lets.size(), kUnseen),
        fns_(program_.fns.size(), kUnseen) {
    for (const Param& param : program_.params) {
      Type(param.type);
      Expr(param.fallback);
    }
    for (const Pool& pool : plan.pools) Expr(pool.slots);
    for (const Job& job : plan.jobs) VisitJob(job, *this);
    for (const Export& e : plan.exports) {
      Type(e.type);
      Expr(e.value);
    }
    for (const Publish& publish : plan.publishes) {
      for (const PublishEntry& entry : publish.entries) {
        Expr(entry.path);
        Expr(entry.value);
        Type(entry.type);
      }
    }
    Expr(plan.max_parallel);
    Drain();
    Number(structs_);
    Number(enums_);
    Number(lets_);
    Number(fns_);
    Share();
  }

  void Expr(ExprId id) {
    if (!id.valid()) return;
    if (uses_[id.index]++ > 0) return;
    const struct Expr& e = program_.exprs[id];
    Type(e.type);
    const OpShape& shape = ShapeOf(e.op);
    if (shape.a == Imm::Let) MarkLater(lets_, e.a, waiting_lets_);
    if (shape.a == Imm::Fn) MarkLater(fns_, e.a, waiting_fns_);
    if (shape.b == Imm::OfType && HasTypeOperand(e)) Type(TypeId{e.b});
    for (uint32_t i = 0; i < e.args.size; ++i) Expr(program_.exprs.arg(e, i));
    order_.push_back(id);
  }

  void Type(TypeId id) {
    if (!id.valid() || types_[id.index] != kUnseen) return;
    types_[id.index] = kMarked;
    const TypeNode& node = program_.types[id];
    if (node.refinement.valid()) {
      Type(node.base);
      waiting_exprs_.push_back(program_.types[node.refinement].predicate);
    } else {
      Type(node.a);
      Type(node.b);
      if (node.kind == TypeKind::Struct) MarkLater(structs_, node.def, waiting_structs_);
      if (node.kind == TypeKind::Enum) enums_[node.def] = kMarked;
      if (IsBasic(node.kind)) return;
    }
    types_[id.index] = static_cast<uint32_t>(type_rows_.size());
    type_rows_.push_back(id);
  }

  static bool IsBasic(TypeKind kind) { return !TypeKindName(kind).empty(); }

  const std::vector<TypeId>& type_rows() const { return type_rows_; }
  const std::vector<ExprId>& shared_rows() const { return shared_rows_; }
  uint32_t type_row(TypeId id) const { return types_[id.index]; }
  uint32_t shared_row(ExprId id) const { return shared_[id.index]; }
  uint32_t struct_row(uint32_t i) const { return structs_[i]; }
  uint32_t enum_row(uint32_t i) const { return enums_[i]; }
  uint32_t let_row(uint32_t i) const { return lets_[i]; }
  uint32_t fn_row(uint32_t i) const { return fns_[i]; }
  static constexpr uint32_t kUnseen = UINT32_MAX;

 private:
  static constexpr uint32_t kMarked = UINT32_MAX - 1;

  static void MarkLater(std::vector<uint32_t>& marks, uint32_t i, std::vector<uint32_t>& waiting) {
    if (marks[i] != kUnseen) return;
    marks[i] = kMarked;
    waiting.push_back(i);
  }

  /// Lets, functions, structs and predicates found on the way; in the order they were found.
  void Drain() {
    size_t let = 0, fn = 0, record = 0, expr = 0;
    for (bool more = true; more;) {
      more = false;
      for (; let < waiting_lets_.size(); ++let, more = true) Expr(program_.lets[waiting_lets_[let]].value);
      for (; fn < waiting_fns_.size(); ++fn, more = true) Expr(program_.fns[waiting_fns_[fn]].body);
      for (; record < waiting_structs_.size(); ++record, more = true) {
        for (const Field& field : program_.types[StructId{waiting_structs_[record]}].fields) {
          Type(field.type);
          Expr(field.fallback);
        }
      }
      for (; expr < waiting_exprs_.size(); ++expr, more = true) Expr(waiting_exprs_[expr]);
    }
  }

  static void Number(std::vector<uint32_t>& marks) {
    uint32_t next = 0;
    for (uint32_t& mark : marks) {
      if (mark != kUnseen) mark = next++;
    }
  }

  void Share() {
    for (ExprId id : order_) {  // children before parents
      const struct Expr& e = program_.exprs[id];
      uint32_t height = 1;
      for (uint32_t i = 0; i < e.args.size; ++i) {
        ExprId arg = program_.exprs.arg(e, i);
        if (shared_[arg.index] == UINT32_MAX) height = std::max(height, height_[arg.index] + 1);
      }
      height_[id.index] = height;
      if ((uses_[id.index] > 1 && WorthSharing(e)) || height >= kInlineHeight) {
        shared_[id.index] = static_cast<uint32_t>(shared_rows_.size());
        shared_rows_.push_back(id);
      }
    }
  }

  bool WorthSharing(const struct Expr& e) const {
    if (e.args.size > 0) return true;
    if (e.op != Op::Const) return false;
    const Value& value = program_.exprs.constant(e.a);
    if (value.kind() == ValueKind::String) return value.as_string().size() > kInlineText;
    return value.kind() == ValueKind::List || value.kind() == ValueKind::Map;
  }

  const Plan& plan_;
  const Program& program_;
  std::vector<uint32_t> uses_, height_, shared_, types_, structs_, enums_, lets_, fns_;
  std::vector<uint32_t> waiting_lets_, waiting_fns_, waiting_structs_;
  std::vector<ExprId> waiting_exprs_, order_, shared_rows_;
  std::vector<TypeId> type_rows_;
};

class PlanWriter {
 public:
  explicit PlanWriter(const Plan& plan) : plan_(plan), program_(plan.program), exprs_(program_.exprs), types_(program_.types), reach_(plan) {}

  std::string Write() {
    Object root(*this);
    BoundsKey(root, plan_.bounds);
    root.Key("enums");
    Array(types_.enums(), [&](const EnumDef& def, size_t i) { return reach_.enum_row(static_cast<uint32_t>(i)) != Reach::kUnseen; },
          [&](const EnumDef& def) {
            Object o(*this);
            o.Key("cases");
            Array(def.cases, [&](const std::string& name) { Text(name); });
            o.Key("name");
            Text(def.name);
          });
    root.Key("exports");
    Array(plan_.exports, [&](const Export& e) {
      Object o(*this);
      At(o, e.at);
      o.Key("name");
      Text(e.name);
      TypeKey(o, "type", e.type);
      ExprKey(o, "value", e.value);
    });
    root.Key("files");
    Array(plan_.files, [&](const FileRow& file) {
      Object o(*this);
      o.Key("base");
      Text(FileBaseName(file.base));
      Flag(o, "dir", file.is_dir);
      TextKey(o, "etag", file.etag);
      o.Key("path");
      Text(file.path);
      TextKey(o, "sha256", file.sha256);
      o.Key("size");
      Number(file.size);
      TextKey(o, "version", file.version);
    });
    root.Key("fns");
    Array(program_.fns, [&](const Fn&, size_t i) { return reach_.fn_row(static_cast<uint32_t>(i)) != Reach::kUnseen; },
          [&](const Fn& fn) {
            Object o(*this);
            ExprKey(o, "body", fn.body);
            o.Key("locals");
            Number(fn.locals);
            o.Key("name");
            Text(fn.name);
            o.Key("params");
            Number(fn.params);
          });
    root.Key("format");
    Text(fmt::format("jobc.plan/{}", kPlanMajor));
    root.Key("functions");
    Number(plan_.functions);
    root.Key("jobs");
    Array(plan_.jobs, [&](const Job& job) { WriteJob(job); });
    root.Key("lets");
    Array(program_.lets, [&](const Let&, size_t i) { return reach_.let_row(static_cast<uint32_t>(i)) != Reach::kUnseen; },
          [&](const Let& let) {
            Object o(*this);
            o.Key("memo");
            Bool(let.memo);
            o.Key("name");
            Text(let.name);
            ExprKey(o, "value", let.value);
          });
    root.Key("limits");
    {
      Object o(*this);
      IntKey(o, "attempts", plan_.limits.attempts);
      IntKey(o, "instances", plan_.limits.instances);
      IntKey(o, "keep_ms", plan_.limits.keep_ms);
      IntKey(o, "time_ms", plan_.limits.time_ms);
    }
    ExprKey(root, "max_parallel", plan_.max_parallel);
    root.Key("minor");
    Number(plan_.minor);
    if (plan_.on_error) {
      root.Key("on_error");
      Text(StrategyName(*plan_.on_error));
    }
    root.Key("params");
    Array(program_.params, [&](const Param& param) {
      Object o(*this);
      TextKey(o, "doc", param.doc);
      ExprKey(o, "fallback", param.fallback);
      o.Key("name");
      Text(param.name);
      TextKey(o, "origin", param.origin);
      TypeKey(o, "type", param.type);
      if (param.value) {
        o.Key("value");
        WriteValue(*param.value, param.type);
      }
    });
    root.Key("pools");
    Array(plan_.pools, [&](const Pool& pool) {
      Object o(*this);
      o.Key("name");
      Text(pool.name);
      ExprKey(o, "slots", pool.slots);
    });
    root.Key("profile");
    Text(plan_.profile);
    root.Key("publish");
    Array(plan_.publishes, [&](const Publish& publish) {
      Object o(*this);
      o.Key("destination");
      Text(publish.destination);
      o.Key("entries");
      Array(publish.entries, [&](const PublishEntry& entry) {
        Object o(*this);
        At(o, entry.at);
        ExprKey(o, "path", entry.path);
        TypeKey(o, "type", entry.type);
        ExprKey(o, "value", entry.value);
      });
      Flag(o, "prune", publish.prune);
    });
    root.Key("secrets");
    Array(program_.secrets, [&](const struct Secret& secret) {
      Object o(*this);
      o.Key("carrier");
      Text(CarrierName(secret.carrier));
      o.Key("name");
      Text(secret.name);
      o.Key("source");
      Text(secret.source);
    });
    root.Key("shared");
    Array(reach_.shared_rows(), [&](ExprId id) { WriteNode(id); });
    root.Key("sources");
    Array(plan_.sources, [&](const SourceRow& source) {
      Object o(*this);
      o.Key("name");
      Text(source.name);
      o.Key("sha256");
      Text(source.sha256);
    });
    root.Key("structs");
    Array(types_.structs(), [&](const StructDef&, size_t i) { return reach_.struct_row(static_cast<uint32_t>(i)) != Reach::kUnseen; },
          [&](const StructDef& def) {
            Object o(*this);
            o.Key("fields");
            Array(def.fields, [&](const Field& field) {
              Object o(*this);
              TextKey(o, "doc", field.doc);
              ExprKey(o, "fallback", field.fallback);
              o.Key("name");
              Text(field.name);
              TypeKey(o, "type", field.type);
            });
            o.Key("name");
            Text(def.name);
            Flag(o, "open", def.open);
          });
    root.Key("types");
    Array(reach_.type_rows(), [&](TypeId id) { WriteType(id); });
    root.End();
    out_ += '\n';
    return std::move(out_);
  }

 private:
  /// Writes `{"key":…}`; keys must come in byte order, which makes the text canonical.
  class Object {
   public:
    explicit Object(PlanWriter& writer) : writer_(writer) { writer_.out_ += '{'; }
    ~Object() { End(); }
    Object(const Object&) = delete;
    Object& operator=(const Object&) = delete;
    void Key(std::string_view key) {
      JOBC_CHECK(last_ < key);
      if (!last_.empty()) writer_.out_ += ',';
      last_ = key;
      writer_.out_ += '"';
      writer_.out_ += key;
      writer_.out_ += "\":";
    }
    void End() {
      if (!ended_) writer_.out_ += '}';
      ended_ = true;
    }

   private:
    PlanWriter& writer_;
    std::string_view last_;
    bool ended_ = false;
  };

  template <typename List, typename Each>
  void Array(const List& list, Each each) {
    Array(list, [](const auto&, size_t) { return true; }, each);
  }
  template <typename List, typename Keep, typename Each>
  void Array(const List& list, Keep keep, Each each) {
    out_ += '[';
    bool first = true;
    size_t i = 0;
    for (const auto& element : list) {
      if (!keep(element, i++)) continue;
      if (!first) out_ += ',';
      first = false;
      each(element);
    }
    out_ += ']';
  }
  template <typename List, typename Each>
  void ArrayKey(Object& o, std::string_view key, const List& list, Each each) {
    if (list.empty()) return;
    o.Key(key);
    Array(list, each);
  }

  void Text(std::string_view text) { AppendJsonQuoted(out_, text); }
  void Bool(bool value) { out_ += value ? "true" : "false"; }
  template <typename T>
  void Number(T value) {
    fmt::format_int text(value);
    out_.append(text.data(), text.size());
  }
  void Flag(Object& o, std::string_view key, bool value) {
    if (!value) return;
    o.Key(key);
    Bool(true);
  }
  void TextKey(Object& o, std::string_view key, std::string_view text) {
    if (text.empty()) return;
    o.Key(key);
    Text(text);
  }
  template <typename T>
  void IntKey(Object& o, std::string_view key, const std::optional<T>& value) {
    if (!value) return;
    o.Key(key);
    Number(*value);
  }
  void ExprKey(Object& o, std::string_view key, ExprId id) {
    if (!id.valid()) return;
    o.Key(key);
    WriteExpr(id);
  }
  void TypeKey(Object& o, std::string_view key, TypeId id) {
    if (!id.valid()) return;
    o.Key(key);
    TypeRef(id);
  }
  void At(Object& o, const Position& at) {
    if (at.source == UINT32_MAX) return;
    o.Key("at");
    out_ += '[';
    Number(at.source);
    out_ += ',';
    Number(at.line);
    out_ += ',';
    Number(at.column);
    out_ += ']';
  }

  void BoundsKey(Object& parent, const std::optional<WorstCase>& bounds) {
    if (!bounds) return;
    parent.Key("bounds");
    Object o(*this);
    o.Key("attempts");
    Number(bounds->attempts);
    if (bounds->attempts_of_one > 0) {
      o.Key("attempts_of_one");
      Number(bounds->attempts_of_one);
    }
    o.Key("instances");
    Number(bounds->instances);
    ArrayKey(o, "slots", bounds->slots, [&](const std::pair<uint32_t, int64_t>& slots) {
      Object o(*this);
      o.Key("pool");
      Number(slots.first);
      o.Key("slots");
      Number(slots.second);
    });
    IntKey(o, "time_ms", bounds->time_ms);
  }

  void TypeRef(TypeId id) {
    uint32_t row = reach_.type_row(id);
    if (row < reach_.type_rows().size()) {
      Number(row);
    } else {
      Text(TypeKindName(types_.kind(id)));
    }
  }

  void WriteType(TypeId id) {
    const TypeNode& node = types_[id];
    Object o(*this);
    if (node.refinement.valid()) {
      o.Key("base");
      TypeRef(node.base);
      o.Key("refinement");
      WriteRefinement(types_[node.refinement]);
      return;
    }
    auto two = [&] {
      out_ += '[';
      TypeRef(node.a);
      out_ += ',';
      TypeRef(node.b);
      out_ += ']';
    };
    switch (node.kind) {
      case TypeKind::List: o.Key("list"); TypeRef(node.a); return;
      case TypeKind::Optional: o.Key("optional"); TypeRef(node.a); return;
      case TypeKind::Map: o.Key("map"); two(); return;
      case TypeKind::Pair: o.Key("pair"); two(); return;
      case TypeKind::Struct: o.Key("struct"); Number(reach_.struct_row(node.def)); return;
      case TypeKind::Enum: o.Key("enum"); Number(reach_.enum_row(node.def)); return;
      case TypeKind::Instance: o.Key("instance"); Number(node.def); return;
      default: JOBC_UNREACHABLE();
    }
  }

  void WriteRefinement(const Refinement& r) {
    Object o(*this);
    if (r.kind == RefinementKind::IntRange) {
      IntKey(o, "high", r.int_high);
    } else if (r.kind == RefinementKind::FloatRange && r.float_high) {
      o.Key("high");
      out_ += FloatText(*r.float_high);
    }
    o.Key("kind");
    Text(RefinementKindName(r.kind));
    if (r.kind == RefinementKind::IntRange) {
      IntKey(o, "low", r.int_low);
    } else if (r.kind == RefinementKind::FloatRange && r.float_low) {
      o.Key("low");
      out_ += FloatText(*r.float_low);
    } else if (r.kind == RefinementKind::Pattern) {
      o.Key("pattern");
      Text(r.pattern);
    } else if (r.kind == RefinementKind::Predicate) {
      ExprKey(o, "predicate", r.predicate);
    }
    o.Key("text");
    Text(r.text);
  }

  void WriteValue(const Value& value, TypeId type) {
    const TypeNode& node = types_[type];
    if (node.kind == TypeKind::Optional && !value.is_null()) return WriteValue(value, node.a);
    switch (value.kind()) {
      case ValueKind::Null: out_ += "null"; return;
      case ValueKind::Bool: Bool(value.as_bool()); return;
      case ValueKind::Int: Number(value.as_int()); return;
      case ValueKind::Float: out_ += FloatText(value.as_float()); return;
      case ValueKind::String: Text(value.as_string()); return;
      case ValueKind::Duration: Text(DurationText(value.as_int())); return;
      case ValueKind::Bytes: Number(value.as_int()); return;
      case ValueKind::Enum:
        JOBC_CHECK(node.kind == TypeKind::Enum);
        Text(types_[EnumId{node.def}].cases[static_cast<size_t>(value.as_int())]);
        return;
      case ValueKind::File: {
        const FileValue& file = value.as_file();
        Object o(*this);
        o.Key("base");
        Text(FileBaseName(file.base));
        o.Key("path");
        Text(file.path);
        if (file.row != UINT32_MAX) {
          o.Key("row");
          Number(file.row);
        }
        if (file.base == FileBase::Text) {
          o.Key("text");
          Text(*file.text);
        }
        return;
      }
      case ValueKind::List: {
        const ListValue& list = value.as_list();
        if (node.kind == TypeKind::Struct) {
          const StructDef& def = types_[StructId{node.def}];
          JOBC_CHECK(list.size() == def.fields.size());
          std::vector<uint32_t> sorted(list.size());
          for (uint32_t i = 0; i < sorted.size(); ++i) sorted[i] = i;
          std::sort(sorted.begin(), sorted.end(), [&](uint32_t x, uint32_t y) { return def.fields[x].name < def.fields[y].name; });
          Object o(*this);
          for (uint32_t i : sorted) {
            o.Key(def.fields[i].name);
            WriteValue(list[i], def.fields[i].type);
          }
          return;
        }
        if (node.kind == TypeKind::Pair) {
          Object o(*this);
          o.Key("first");
          WriteValue(list.at(0), node.a);
          o.Key("second");
          WriteValue(list.at(1), node.b);
          return;
        }
        TypeId element = node.kind == TypeKind::List    ? node.a
                         : node.kind == TypeKind::Args  ? types_.Basic(TypeKind::String)
                         : node.kind == TypeKind::Range ? types_.Basic(TypeKind::Int)
                                                        : type;
        Array(list, [&](const Value& item) { WriteValue(item, element); });
        return;
      }
      case ValueKind::Map: {
        bool typed = node.kind == TypeKind::Map;
        std::vector<std::pair<std::string, const Value*>> entries;
        for (const auto& [key, item] : value.as_map()) entries.emplace_back(KeyText(key, typed ? node.a : type), &item);
        std::sort(entries.begin(), entries.end(), [](const auto& x, const auto& y) { return x.first < y.first; });
        out_ += '{';
        for (size_t i = 0; i < entries.size(); ++i) {
          if (i > 0) out_ += ',';
          Text(entries[i].first);
          out_ += ':';
          WriteValue(*entries[i].second, typed ? node.b : type);
        }
        out_ += '}';
        return;
      }
      case ValueKind::Secret: case ValueKind::Instance:
        break;  // never part of a plan: secrets because they are secret, instances because they are symbolic
    }
    JOBC_UNREACHABLE();
  }

  std::string KeyText(const Value& key, TypeId type) const {
    if (key.kind() == ValueKind::Int) return std::to_string(key.as_int());
    if (key.kind() == ValueKind::Enum) return types_[EnumId{types_[type].def}].cases[static_cast<size_t>(key.as_int())];
    return key.as_string();
  }

  void WriteExpr(ExprId id) {
    if (uint32_t row = reach_.shared_row(id); row != UINT32_MAX) {
      Object o(*this);
      o.Key("ref");
      Number(row);
      return;
    }
    WriteNode(id);
  }

  void WriteNode(ExprId id) {
    const Expr& e = exprs_[id];
    JOBC_CHECK(e.op != Op::Error);
    const OpShape& shape = ShapeOf(e.op);
    struct Part {
      std::string_view key;
      int what;  // 0 args, 1 op, 2 type, 3 a, 4 b
    };
    std::array<Part, 5> parts;
    size_t count = 0;
    if (e.args.size > 0) parts[count++] = {"args", 0};
    parts[count++] = {"op", 1};
    parts[count++] = {"type", 2};
    if (shape.a != Imm::None) parts[count++] = {ImmName(shape.a), 3};
    if (shape.b != Imm::None && (shape.b != Imm::OfType || HasTypeOperand(e))) parts[count++] = {ImmName(shape.b), 4};
    for (size_t i = 1; i < count; ++i) {
      for (size_t j = i; j > 0 && parts[j].key < parts[j - 1].key; --j) std::swap(parts[j], parts[j - 1]);
    }
    Object o(*this);
    for (size_t i = 0; i < count; ++i) {
      o.Key(parts[i].key);
      switch (parts[i].what) {
        case 0:
          out_ += '[';
          for (uint32_t k = 0; k < e.args.size; ++k) {
            if (k > 0) out_ += ',';
            WriteExpr(exprs_.arg(e, k));
          }
          out_ += ']';
          break;
        case 1: Text(OpName(e.op)); break;
        case 2: TypeRef(e.type); break;
        case 3: WriteImmediate(shape.a, e.a, e.type); break;
        case 4: WriteImmediate(shape.b, e.b, e.type); break;
      }
    }
  }

  void WriteImmediate(Imm imm, uint32_t value, TypeId type) {
    switch (imm) {
      case Imm::Const: WriteValue(exprs_.constant(value), type); return;
      case Imm::Key: case Imm::Directory: case Imm::PlaceName: Text(exprs_.constant(value).as_string()); return;
      case Imm::Let: Number(reach_.let_row(value)); return;
      case Imm::Fn: Number(reach_.fn_row(value)); return;
      case Imm::Resource: Text(ResourceName(static_cast<ResourceKind>(value))); return;
      case Imm::Status: Text(StatusFieldName(static_cast<StatusField>(value))); return;
      case Imm::RunField: Text(RunFieldName(static_cast<RunFieldKind>(value))); return;
      case Imm::Prev: Text(PrevName(static_cast<PrevKind>(value))); return;
      case Imm::Base: Text(FileBaseName(static_cast<FileBase>(value))); return;
      case Imm::Function: Text(BuiltinName(static_cast<Builtin>(value))); return;
      case Imm::OfType: TypeRef(TypeId{value}); return;
      default: Number(value); return;
    }
  }

  void WriteNamed(const std::vector<NamedExpr>& list) {
    Array(list, [&](const NamedExpr& entry) {
      Object o(*this);
      o.Key("name");
      Text(entry.name);
      ExprKey(o, "value", entry.value);
    });
  }

  void WriteExprs(Object& o, std::string_view key, const std::vector<ExprId>& list) {
    ArrayKey(o, key, list, [&](ExprId id) { WriteExpr(id); });
  }

  void WriteBackoff(Object& parent, std::string_view key, const Backoff& b) {
    Backoff none;
    if (!b.base.valid() && !b.max.valid() && b.kind == none.kind && b.factor == none.factor && b.full_jitter == none.full_jitter) return;
    parent.Key(key);
    Object o(*this);
    ExprKey(o, "base", b.base);
    o.Key("factor");
    out_ += FloatText(b.factor);
    o.Key("jitter");
    Text(b.full_jitter ? "full" : "none");
    o.Key("kind");
    Text(BackoffName(b.kind));
    ExprKey(o, "max", b.max);
  }

  void WriteResources(Object& parent, const ResourceSpec& spec) {
    if (!spec.cpu.valid() && !spec.memory.valid() && !spec.disk.valid() && !spec.gpu.valid() && !spec.spot.valid()) return;
    parent.Key("resources");
    Object o(*this);
    ExprKey(o, "cpu", spec.cpu);
    ExprKey(o, "disk", spec.disk);
    ExprKey(o, "gpu", spec.gpu);
    ExprKey(o, "memory", spec.memory);
    ExprKey(o, "spot", spec.spot);
  }

  void WriteTimeout(Object& parent, const TimeoutSpec& spec) {
    if (!spec.queue.valid() && !spec.run.valid() && !spec.total.valid() && !spec.idle.valid() && !spec.stage.valid() && !spec.collect.valid()) return;
    parent.Key("timeout");
    Object o(*this);
    ExprKey(o, "collect", spec.collect);
    ExprKey(o, "idle", spec.idle);
    ExprKey(o, "queue", spec.queue);
    ExprKey(o, "run", spec.run);
    ExprKey(o, "stage", spec.stage);
    ExprKey(o, "total", spec.total);
  }

  void WriteMatchers(const std::vector<Matcher>& matchers) {
    Array(matchers, [&](const Matcher& matcher) {
      Object o(*this);
      if (matcher.kind) {
        o.Key("kind");
        Text(KindName(*matcher.kind));
      } else if (matcher.error_class) {
        o.Key("class");
        Text(ClassName(*matcher.error_class));
      } else {
        o.Key("name");
        Text(matcher.name);
      }
    });
  }

  void WriteFact(const Fact& fact) {
    Object o(*this);
    switch (fact.kind) {
      case Fact::Kind::Exit:
        o.Key("exit");
        out_ += '[';
        Number(fact.low);
        out_ += ',';
        Number(fact.high);
        out_ += ']';
        return;
      case Fact::Kind::Signal: o.Key("signal"); Number(fact.low); return;
      case Fact::Kind::Stdout: o.Key("stdout"); Text(fact.pattern); return;
      case Fact::Kind::Stderr: o.Key("stderr"); Text(fact.pattern); return;
      case Fact::Kind::And: o.Key("and"); break;
      case Fact::Kind::Or: o.Key("or"); break;
      case Fact::Kind::Not: o.Key("not"); break;
    }
    Array(fact.operands, [&](const Fact& operand) { WriteFact(operand); });
  }

  void WriteScript(Object& parent, std::string_view key, const std::optional<Script>& script) {
    if (!script) return;
    parent.Key(key);
    Object o(*this);
    ArrayKey(o, "bindings", script->bindings, [&](const ScriptBinding& binding) {
      Object o(*this);
      o.Key("hole");
      Number(binding.hole);
      Flag(o, "splice", binding.splice);
      TypeKey(o, "type", binding.type);
      ExprKey(o, "value", binding.value);
    });
    o.Key("interpreter");
    Number(static_cast<uint32_t>(script->interpreter));
    TextKey(o, "lowered", script->lowered);
    o.Key("sha256");
    Text(script->sha256);
    o.Key("text");
    Text(script->text);
  }

  void WriteDomain(Object& parent, const Domain& d) {
    bool none = d.single() && !d.dynamic && !d.two_names && d.name.empty() && d.name2.empty() && !d.type.valid() &&
                !d.type2.valid() && !d.key.valid() && d.key_kind == KeyKind::None && !d.key_type.valid() && !d.max &&
                d.excluded.empty() && !d.count;
    if (none) return;
    parent.Key("domain");
    Object o(*this);
    ArrayKey(o, "axes", d.axes, [&](const Axis& axis) {
      Object o(*this);
      o.Key("name");
      Text(axis.name);
      TypeKey(o, "type", axis.type);
      ExprKey(o, "values", axis.values);
    });
    IntKey(o, "count", d.count);
    Flag(o, "dynamic", d.dynamic);
    ArrayKey(o, "excluded", d.excluded, [&](const auto& row) {
      Array(row, [&](const std::pair<uint32_t, ExprId>& cell) {
        Object o(*this);
        o.Key("axis");
        Number(cell.first);
        ExprKey(o, "value", cell.second);
      });
    });
    ExprKey(o, "key", d.key);
    o.Key("key_kind");
    Text(KeyKindName(d.key_kind));
    TypeKey(o, "key_type", d.key_type);
    ExprKey(o, "list", d.list);
    IntKey(o, "max", d.max);
    TextKey(o, "name", d.name);
    TextKey(o, "name2", d.name2);
    Flag(o, "two_names", d.two_names);
    TypeKey(o, "type", d.type);
    TypeKey(o, "type2", d.type2);
  }

  void WriteJob(const Job& job) {
    Object o(*this);
    if (job.action != ActionKind::None) {
      o.Key("action");
      Text(ActionName(job.action));
    }
    o.Key("address");
    Text(job.address);
    ArrayKey(o, "after", job.after, [&](const After& after) {
      Object o(*this);
      WriteExprs(o, "indices", after.indices);
      o.Key("job");
      Number(after.job);
      o.Key("kind");
      Text(AfterName(after.kind));
      o.Key("mapping");
      Text(MappingName(after.mapping));
    });
    At(o, job.at);
    o.Key("backend");
    {
      Object b(*this);
      b.Key("kind");
      Text(BackendName(job.backend.kind));
      if (!job.backend.options.empty()) {
        b.Key("options");
        WriteNamed(job.backend.options);
      }
    }
    BoundsKey(o, job.bounds);
    ExprKey(o, "cache", job.cache);
    ExprKey(o, "cache_salt", job.cache_salt);
    ArrayKey(o, "dependencies", job.dependencies, [&](const Dependency& d) {
      Object o(*this);
      ExprKey(o, "condition", d.condition);
      WriteExprs(o, "indices", d.indices);
      o.Key("job");
      Number(d.job);
      o.Key("mapping");
      Text(MappingName(d.mapping));
      Flag(o, "order_only", d.order_only);
      o.Key("strong");
      Bool(d.strong);
    });
    TextKey(o, "doc", job.doc);
    WriteDomain(o, job.domain);
    ArrayKey(o, "env", job.env, [&](const EnvEntry& entry) {
      Object o(*this);
      o.Key("name");
      Text(entry.name);
      TypeKey(o, "type", entry.type);
      ExprKey(o, "value", entry.value);
    });
    WriteScript(o, "epilogue", job.epilogue);
    ArrayKey(o, "errors", job.errors, [&](const ErrorArm& arm) {
      Object o(*this);
      o.Key("class");
      Text(ClassName(arm.error_class));
      o.Key("fact");
      WriteFact(arm.fact);
      o.Key("kind");
      Text(KindName(arm.kind));
      TextKey(o, "name", arm.name);
      Flag(o, "success", arm.success);
      TextKey(o, "title", arm.title);
    });
    ExprKey(o, "grace", job.grace);
    if (job.kind == JobKind::Hook) {
      o.Key("hook_event");
      Text(HookEventName(job.hook_event));
    }
    ExprKey(o, "image", job.image);
    ArrayKey(o, "inherit_env", job.inherit_env, [&](const std::string& name) { Text(name); });
    ArrayKey(o, "inputs", job.inputs, [&](const Input& input) {
      Object o(*this);
      Flag(o, "implicit", input.implicit);
      o.Key("name");
      Text(input.name);
      TypeKey(o, "type", input.type);
      ExprKey(o, "value", input.value);
    });
    o.Key("kind");
    Text(JobKindName(job.kind));
    if (!job.labels.empty()) {
      o.Key("labels");
      WriteNamed(job.labels);
    }
    ExprKey(o, "log_limit", job.log_limit);
    Flag(o, "nullable", job.nullable);
    o.Key("on_error");
    Text(StrategyName(job.on_error));
    Flag(o, "on_error_set", job.on_error_set);
    ArrayKey(o, "outputs", job.outputs, [&](const Output& output) {
      Object o(*this);
      At(o, output.at);
      TextKey(o, "doc", output.doc);
      ExprKey(o, "fallback", output.fallback);
      IntKey(o, "glob_max", output.glob_max);
      IntKey(o, "glob_min", output.glob_min);
      o.Key("kind");
      Text(OutputKindName(output.kind));
      o.Key("name");
      Text(output.name);
      TypeKey(o, "type", output.type);
      ExprKey(o, "value", output.value);
    });
    ArrayKey(o, "pools", job.pools, [&](const std::pair<uint32_t, ExprId>& claim) {
      Object o(*this);
      o.Key("pool");
      Number(claim.first);
      ExprKey(o, "slots", claim.second);
    });
    ExprKey(o, "priority", job.priority);
    WriteScript(o, "prologue", job.prologue);
    ArrayKey(o, "requires", job.requires_, [&](const Require& require) {
      Object o(*this);
      At(o, require.at);
      ExprKey(o, "condition", require.condition);
      ExprKey(o, "message", require.message);
      o.Key("text");
      Text(require.text);
    });
    WriteResources(o, job.resources);
    WriteRetry(o, job.retry);
    ExprKey(o, "run", job.run);
    WriteScript(o, "script", job.script);
    if (!job.secret_files.empty()) {
      o.Key("secret_files");
      WriteNamed(job.secret_files);
    }
    ExprKey(o, "staging", job.staging);
    o.Key("submit");
    {
      Object s(*this);
      WriteBackoff(s, "backoff", job.submit.backoff);
      s.Key("max_attempts");
      Number(job.submit.max_attempts);
    }
    WriteTimeout(o, job.timeout);
    ExprKey(o, "when", job.when);
  }

  void WriteRetry(Object& parent, const Retry& retry) {
    parent.Key("retry");
    Object o(*this);
    WriteBackoff(o, "backoff", retry.backoff);
    o.Key("max_attempts");
    Number(retry.max_attempts);
    if (!retry.never.empty()) {
      o.Key("never");
      WriteMatchers(retry.never);
    }
    if (retry.has_on) {
      o.Key("on");
      WriteMatchers(retry.on);
    }
    ArrayKey(o, "rules", retry.rules, [&](const RetryRule& rule) {
      Object o(*this);
      if (rule.backoff) WriteBackoff(o, "backoff", *rule.backoff);
      ExprKey(o, "delay", rule.delay);
      o.Key("matchers");
      WriteMatchers(rule.matchers);
      WriteResources(o, rule.resources);
      IntKey(o, "retries", rule.retries);
      WriteTimeout(o, rule.timeout);
    });
  }

  const Plan& plan_;
  const Program& program_;
  const ExprPool& exprs_;
  const TypeTable& types_;
  Reach reach_;
  std::string out_;
};

}  // namespace

std::string WritePlan(const Plan& plan, int indent) {
  std::string text = PlanWriter(plan).Write();
  if (indent <= 0) return text;
  Result<Value> parsed = ParseJsonToDepth(text, kMaxPlanJsonDepth);
  JOBC_CHECK(parsed.ok());
  return JsonText(*parsed, indent) + "\n";
}

std::string PlanDigest(const Plan& plan) { return Sha256Hex(WritePlan(plan)); }

}  // namespace jobc::ir
