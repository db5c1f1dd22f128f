#include "compiler/driver/json_schema.h"

#include <fmt/format.h>

#include <map>
#include <set>

#include "ir/evaluate.h"
#include "ir/json.h"

namespace jobc {
namespace {

using ir::TypeKind;
using ir::Value;

enum class Direction : uint8_t {
  Read,   ///< jobc decodes it: defaults may be left out, `"4GiB"` is a Bytes
  Write,  ///< jobc wrote it: everything is there
};

/// The members of one JSON object.
class Members {
 public:
  Members& Set(std::string_view name, Value value) {
    entries_.emplace_back(Value::String(std::string(name)), std::move(value));
    return *this;
  }
  Members& Set(std::string_view name, std::string_view value) { return Set(name, Value::String(std::string(value))); }
  bool empty() const { return entries_.empty(); }
  Value Take() { return Value::MapFrom(std::move(entries_)); }

 private:
  ir::MapValue entries_;
};

Value Text(std::string_view text) { return Value::String(std::string(text)); }

/// Whether an ECMA-262 engine reads the RE2 pattern alike. What is special in RE2: flags, named groups, `\A \z \C \Q`,
/// POSIX and Unicode classes.
bool IsPortablePattern(std::string_view pattern) {
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '\\') {
      ++i;
      if (i < pattern.size() && std::string_view("AzCQEpPax").find(pattern[i]) != std::string_view::npos) return false;
    } else if (pattern.substr(i, 2) == "(?" && pattern.substr(i, 3) != "(?:") {
      return false;
    } else if (pattern.substr(i, 2) == "[:") {
      return false;
    }
  }
  return true;
}

class SchemaMaker {
 public:
  SchemaMaker(const Model& model, Direction direction)
      : program_(model.plan.program), types_(program_.types), evaluator_(program_), direction_(direction) {}

  Value Of(ir::TypeId type) {
    Members schema;
    Describe(type, schema);
    return schema.Take();
  }

  /// With its documentation and default.
  Value OfField(ir::TypeId type, std::string_view doc, ir::ExprId fallback) {
    Members schema;
    Describe(type, schema);
    if (!doc.empty()) schema.Set("description", doc);
    ir::EvalContext nothing;
    Value value, json;
    if (fallback.valid() && evaluator_.Evaluate(fallback, nothing, value)) {
      Result<Value> encoded = ir::ToJsonValue(value, types_.Bare(type), program_, nothing);
      if (encoded.ok()) schema.Set("default", *encoded);
    }
    return schema.Take();
  }

  /// The document, with the structs and enums it refers to.
  std::string Document(std::string title, Members root) {
    root.Set("$schema", "https://json-schema.org/draft/2020-12/schema");
    root.Set("title", title);
    if (!definitions_.empty()) {
      Members all;
      for (auto& [name, schema] : definitions_) all.Set(name, schema);
      root.Set("$defs", all.Take());
    }
    return ir::JsonText(root.Take(), 2) + "\n";
  }

 private:
  void Describe(ir::TypeId id, Members& out) {
    const ir::TypeNode& node = types_[id];
    if (node.refinement.valid()) {
      // The refinements of one place as their own alternatives-free parts: those of the base first.
      if (types_[node.base].refinement.valid()) {
        ir::ListValue all;
        all.push_back(Of(node.base));
        Members own;
        Refine(node, own);
        all.push_back(own.Take());
        out.Set("allOf", Value::List(std::move(all)));
        return;
      }
      Describe(node.base, out);
      Refine(node, out);
      return;
    }
    switch (node.kind) {
      case TypeKind::Null: out.Set("type", "null"); return;
      case TypeKind::Bool: out.Set("type", "boolean"); return;
      case TypeKind::Int: out.Set("type", "integer"); return;
      case TypeKind::Float: out.Set("type", "number"); return;
      case TypeKind::String: out.Set("type", "string"); return;
      case TypeKind::Duration:
        out.Set("type", "string");
        out.Set("pattern", direction_ == Direction::Read ? R"(^[0-9][0-9_]*(\.[0-9]+)?(ms|s|m|h|d)$)" : R"(^-?[0-9]+(ms|s|m|h|d)$)");
        return;
      case TypeKind::Bytes:
        if (direction_ == Direction::Write) {
          out.Set("type", "integer");
        } else {
          out.Set("type", Value::List({Text("integer"), Text("string")}));
          out.Set("pattern", R"(^[0-9][0-9_]*(\.[0-9]+)?([kKMGTPE]i?)?B$)");
        }
        return;
      case TypeKind::File:
      case TypeKind::Dir:
        out.Set("type", "string");
        out.Set("minLength", Value::Int(1));
        out.Set("$comment", node.kind == TypeKind::File ? "the path of a file" : "the path of a directory");
        return;
      case TypeKind::Enum:
      case TypeKind::Struct: out.Set("$ref", "#/$defs/" + Define(id)); return;
      case TypeKind::List:
        out.Set("type", "array");
        out.Set("items", Of(node.a));
        return;
      case TypeKind::Map: {
        out.Set("type", "object");
        out.Set("additionalProperties", Of(node.b));
        const TypeKind key = types_.kind(node.a);
        if (key == TypeKind::Int) {
          out.Set("propertyNames", Members().Set("pattern", "^(0|-?[1-9][0-9]*)$").Take());
        } else if (key == TypeKind::Enum || types_[node.a].refinement.valid()) {
          out.Set("propertyNames", Of(node.a));
        }
        return;
      }
      case TypeKind::Pair: {
        out.Set("type", "object");
        out.Set("properties", Members().Set("first", Of(node.a)).Set("second", Of(node.b)).Take());
        out.Set("additionalProperties", Value::Bool(false));
        ir::ListValue required;
        if (direction_ == Direction::Write || !types_.IsOptional(node.a)) required.push_back(Text("first"));
        if (direction_ == Direction::Write || !types_.IsOptional(node.b)) required.push_back(Text("second"));
        if (!required.empty()) out.Set("required", Value::List(std::move(required)));
        return;
      }
      case TypeKind::Optional: out.Set("anyOf", Value::List({Of(node.a), Members().Set("type", "null").Take()})); return;
      case TypeKind::Json:   // anything
      case TypeKind::Error:
      case TypeKind::Secret:
      case TypeKind::Args:
      case TypeKind::Regex:
      case TypeKind::Range:
      case TypeKind::Instance: return;
    }
  }

  void Refine(const ir::TypeNode& node, Members& out) {
    const ir::Refinement& refinement = types_[node.refinement];
    const bool numbers = node.kind == TypeKind::Int || node.kind == TypeKind::Float;
    switch (refinement.kind) {
      case ir::RefinementKind::IntRange:
        // A Duration is a text, and a Bytes may be one.
        if (numbers || (node.kind == TypeKind::Bytes && direction_ == Direction::Write)) {
          if (refinement.int_low) out.Set("minimum", Value::Int(*refinement.int_low));
          if (refinement.int_high) out.Set("maximum", Value::Int(*refinement.int_high));
          return;
        }
        break;
      case ir::RefinementKind::FloatRange:
        if (refinement.float_low) out.Set("minimum", Value::Float(*refinement.float_low));
        if (refinement.float_high) out.Set("maximum", Value::Float(*refinement.float_high));
        return;
      case ir::RefinementKind::Pattern:
        if (!IsPortablePattern(refinement.pattern)) break;
        out.Set("pattern", fmt::format("^(?:{})$", refinement.pattern));
        return;
      case ir::RefinementKind::Predicate: {
        Bounds bounds;
        if (!FromPredicate(refinement.predicate, node.kind, bounds)) break;
        for (const auto& [name, value] : bounds) out.Set(name, value);
        return;
      }
    }
    out.Set("$comment", fmt::format("must also satisfy: {}", refinement.text));
  }

  using Bounds = std::map<std::string, Value>;

  /// `length(it) > 0 && length(it) <= 64`, `it >= 0`: as keywords. All of it or nothing.
  bool FromPredicate(ir::ExprId id, TypeKind of, Bounds& out) const {
    if (!id.valid()) return false;
    const ir::Expr& expr = program_.exprs[id];
    if (expr.op == ir::Op::And) return FromPredicate(program_.exprs.arg(expr, 0), of, out) && FromPredicate(program_.exprs.arg(expr, 1), of, out);
    enum { Low, High, Both } side;
    bool strict = false;
    switch (expr.op) {
      case ir::Op::Gt: side = Low; strict = true; break;
      case ir::Op::Ge: side = Low; break;
      case ir::Op::Lt: side = High; strict = true; break;
      case ir::Op::Le: side = High; break;
      case ir::Op::Eq: side = Both; break;
      default: return false;
    }
    ir::ExprId subject = program_.exprs.arg(expr, 0), limit = program_.exprs.arg(expr, 1);
    if (program_.exprs.IsConst(subject)) {
      std::swap(subject, limit);
      if (side != Both) side = side == Low ? High : Low;
    }
    if (!program_.exprs.IsConst(limit)) return false;
    const Value& bound = program_.exprs.constant(program_.exprs[limit].a);
    const auto is_it = [&](ir::ExprId each) { return program_.exprs[each].op == ir::Op::Local && program_.exprs[each].a == 0; };
    std::string low, high;
    const ir::Expr& left = program_.exprs[subject];
    if (is_it(subject) && (of == TypeKind::Int || of == TypeKind::Float)) {
      if (bound.kind() != ir::ValueKind::Int && bound.kind() != ir::ValueKind::Float) return false;
      low = strict ? "exclusiveMinimum" : "minimum";
      high = strict ? "exclusiveMaximum" : "maximum";
      if (side != High && !out.emplace(low, bound).second) return false;
      if (side != Low && !out.emplace(high, bound).second) return false;
      return true;
    }
    if (left.op != ir::Op::Call || static_cast<ir::Builtin>(left.a) != ir::Builtin::length || !is_it(program_.exprs.arg(left, 0))) return false;
    if (bound.kind() != ir::ValueKind::Int) return false;
    const std::string_view what = of == TypeKind::String ? "Length" : of == TypeKind::List ? "Items" : of == TypeKind::Map ? "Properties" : "";
    if (what.empty()) return false;
    const int64_t least = bound.as_int() + (strict ? 1 : 0), most = bound.as_int() - (strict ? 1 : 0);
    if ((side != High && least < 0) || (side != Low && most < 0)) return false;
    if (side != High && !out.emplace(fmt::format("min{}", what), Value::Int(least)).second) return false;
    if (side != Low && !out.emplace(fmt::format("max{}", what), Value::Int(most)).second) return false;
    return true;
  }

  /// The name of a struct or enum in `$defs`. Modules may have types of one name: the later ones get a number.
  const std::string& Define(ir::TypeId id) {
    const ir::TypeNode& node = types_[id];
    const bool is_enum = node.kind == TypeKind::Enum;
    const auto known = names_.find({is_enum, node.def});
    if (known != names_.end()) return known->second;
    std::string name;
    for (const char c : is_enum ? types_[ir::EnumId{node.def}].name : types_[ir::StructId{node.def}].name) {
      name += std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' ? c : '_';
    }
    for (int number = 2; !taken_.insert(name).second; ++number) {
      name = fmt::format("{}_{}", name.substr(0, name.rfind('_')), number);
    }
    const std::string& kept = names_.emplace(std::pair(is_enum, node.def), name).first->second;
    Members schema;
    if (is_enum) {
      ir::ListValue cases;
      for (const std::string& each : types_[ir::EnumId{node.def}].cases) cases.push_back(Text(each));
      schema.Set("enum", Value::List(std::move(cases)));
    } else {
      const ir::StructDef& def = types_[ir::StructId{node.def}];
      schema.Set("type", "object");
      Members properties;
      ir::ListValue required;
      for (const ir::Field& field : def.fields) {
        properties.Set(field.name, OfField(field.type, field.doc, direction_ == Direction::Read ? field.fallback : ir::ExprId()));
        if (direction_ == Direction::Write || (!field.fallback.valid() && !types_.IsOptional(field.type))) required.push_back(Text(field.name));
      }
      schema.Set("properties", properties.Take());
      if (!required.empty()) schema.Set("required", Value::List(std::move(required)));
      // What an open struct does not declare is read over, never written.
      if (!def.open || direction_ == Direction::Write) schema.Set("additionalProperties", Value::Bool(false));
    }
    definitions_[kept] = schema.Take();
    return kept;
  }

  const ir::Program& program_;
  const ir::TypeTable& types_;
  ir::Evaluator evaluator_;
  Direction direction_;
  std::map<std::pair<bool, uint32_t>, std::string> names_;
  std::set<std::string> taken_;
  std::map<std::string, Value> definitions_;
};

Value ObjectOfOutputs(SchemaMaker& maker, const ir::Job& job) {
  Members properties;
  ir::ListValue required;
  for (const ir::Output& output : job.outputs) {
    properties.Set(output.name, maker.OfField(output.type, output.doc, {}));
    required.push_back(Text(output.name));
  }
  Members object;
  object.Set("type", "object").Set("properties", properties.Take()).Set("additionalProperties", Value::Bool(false));
  if (!required.empty()) object.Set("required", Value::List(std::move(required)));
  return object.Take();
}

}  // namespace

std::string ParamsSchema(const Model& model, std::string_view file_name) {
  SchemaMaker maker(model, Direction::Read);
  const ir::Program& program = model.plan.program;
  Members root, properties;
  ir::ListValue required;
  for (const ir::Param& param : program.params) {
    properties.Set(param.name, maker.OfField(param.type, param.doc, param.fallback));
    if (!param.fallback.valid() && !program.types.IsOptional(param.type)) required.push_back(Text(param.name));
  }
  root.Set("type", "object").Set("properties", properties.Take()).Set("additionalProperties", Value::Bool(false));
  if (!required.empty()) root.Set("required", Value::List(std::move(required)));
  std::string requires_text;
  for (const ParamRequire& each : model.requires_) requires_text += (requires_text.empty() ? "" : "; ") + each.text;
  if (!requires_text.empty()) root.Set("$comment", "must also satisfy: " + requires_text);
  return maker.Document(fmt::format("parameters of {}", file_name), std::move(root));
}

std::string ExportsSchema(const Model& model, std::string_view file_name) {
  SchemaMaker maker(model, Direction::Write);
  Members root, properties;
  ir::ListValue required;
  for (const ir::Export& each : model.plan.exports) {
    properties.Set(each.name, maker.Of(each.type));
    required.push_back(Text(each.name));
  }
  root.Set("type", "object").Set("properties", properties.Take()).Set("additionalProperties", Value::Bool(false));
  if (!required.empty()) root.Set("required", Value::List(std::move(required)));
  return maker.Document(fmt::format("result of {}", file_name), std::move(root));
}

std::string OutputsSchema(const Model& model, uint32_t job) {
  SchemaMaker maker(model, Direction::Write);
  const ir::Job& declared = model.plan.jobs[job];
  const Value one = ObjectOfOutputs(maker, declared);
  if (declared.domain.single()) {
    Members root;
    for (const auto& [name, value] : one.as_map()) root.Set(name.as_string(), value);
    return maker.Document(fmt::format("outputs of {}", declared.address), std::move(root));
  }
  Members root;
  root.Set("type", "object").Set("additionalProperties", Members().Set("anyOf", Value::List({one, Members().Set("type", "null").Take()})).Take());
  return maker.Document(fmt::format("outputs of the instances of {}", declared.address), std::move(root));
}

std::string JobResultSchema(const Model& model, uint32_t job) {
  SchemaMaker maker(model, Direction::Read);
  const ir::Job& declared = model.plan.jobs[job];
  const ir::TypeTable& types = model.plan.program.types;
  Members root, properties;
  ir::ListValue required;
  for (const ir::Output& output : declared.outputs) {
    if (output.kind != ir::OutputKind::Json) continue;
    properties.Set(output.name, maker.OfField(output.type, output.doc, output.fallback));
    if (!output.fallback.valid() && !types.IsOptional(output.type)) required.push_back(Text(output.name));
  }
  // Keys without a declared output are kept in `.result`.
  root.Set("type", "object").Set("properties", properties.Take());
  if (!required.empty()) root.Set("required", Value::List(std::move(required)));
  return maker.Document(fmt::format("what {} writes to $JOB_RESULT", declared.address), std::move(root));
}

}  // namespace jobc
