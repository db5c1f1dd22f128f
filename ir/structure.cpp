#include "ir/structure.h"

#include <fmt/format.h>

#include "ir/dump.h"
#include "ir/evaluate.h"
#include "ir/json.h"
#include "ir/op_shape.h"
#include "support/sha256.h"

namespace jobc::ir {
namespace {

/// Every constant as a text that says its kind, so that `1` and `"1"` differ.
void AppendValue(std::string& out, const Value& value, TypeId type, const TypeTable& types) {
  const TypeNode& node = types[types.NonNull(type)];
  out += fmt::format("{}:", static_cast<int>(value.kind()));
  switch (value.kind()) {
    case ValueKind::Null: break;
    case ValueKind::Bool: out += value.as_bool() ? "1" : "0"; break;
    case ValueKind::Int:
    case ValueKind::Duration:
    case ValueKind::Bytes: out += std::to_string(value.as_int()); break;
    case ValueKind::Float: out += FloatText(value.as_float()); break;
    case ValueKind::String: out += JsonQuote(value.as_string()); break;
    case ValueKind::File:
      out += fmt::format("{}{}", static_cast<int>(value.as_file().base), JsonQuote(value.as_file().path));
      if (value.as_file().base == FileBase::Text) out += value.as_file().sha256;
      break;
    case ValueKind::Enum: {
      const auto index = static_cast<size_t>(value.as_int());
      if (node.kind == TypeKind::Enum && index < types[EnumId{node.def}].cases.size()) {
        out += types[EnumId{node.def}].cases[index];
      } else {
        out += std::to_string(index);
      }
      break;
    }
    case ValueKind::List: {
      const ListValue& list = value.as_list();
      for (size_t i = 0; i < list.size(); ++i) {
        TypeId inner = node.kind == TypeKind::List ? node.a : node.kind == TypeKind::Pair ? (i == 0 ? node.a : node.b) : types.NonNull(type);
        if (node.kind == TypeKind::Struct && i < types[StructId{node.def}].fields.size()) inner = types[StructId{node.def}].fields[i].type;
        AppendValue(out, list[i], inner, types);
        out += ',';
      }
      break;
    }
    case ValueKind::Map:
      for (const auto& [key, item] : value.as_map()) {
        AppendValue(out, key, node.kind == TypeKind::Map ? node.a : type, types);
        out += '=';
        AppendValue(out, item, node.kind == TypeKind::Map ? node.b : type, types);
        out += ',';
      }
      break;
    case ValueKind::Secret:
    case ValueKind::Instance: break;  // never constants
  }
  out += ';';
}

std::string JobName(const Plan& plan, uint32_t job) { return job < plan.jobs.size() ? plan.jobs[job].address : std::to_string(job); }

std::string OutputName(const Plan& plan, uint32_t job, uint32_t output) {
  return job < plan.jobs.size() && output < plan.jobs[job].outputs.size() ? plan.jobs[job].outputs[output].name : std::to_string(output);
}

}  // namespace

std::string Structure::Immediate(const Expr& e, uint32_t job) {
  const Program& program = plan_.program;
  const Job* own = job < plan_.jobs.size() ? &plan_.jobs[job] : nullptr;
  auto of = [&](Imm imm, uint32_t value, uint32_t other) -> std::string {
    std::string out;
    switch (imm) {
      case Imm::None: return out;
      case Imm::Const: AppendValue(out, program.exprs.constant(value), e.type, program.types); return out;
      case Imm::Key:
      case Imm::Directory: return JsonQuote(program.exprs.constant(value).as_string());
      case Imm::PlaceName: return out;  // for messages only
      case Imm::Param: return program.params[value].name;
      case Imm::Let: return Of(program.lets[value].value, job);
      case Imm::Fn: return fmt::format("{}:{}", program.fns[value].params, Of(program.fns[value].body, job));
      case Imm::Secret: return program.secrets[value].name;
      case Imm::Input: return own != nullptr && value < own->inputs.size() ? own->inputs[value].name : std::to_string(value);
      case Imm::OwnOutput: return OutputName(plan_, job, value);
      case Imm::Job: return JobName(plan_, value);
      case Imm::Output: {
        // Of job `other`, or of the job of an instance.
        uint32_t of_job = other;
        if (e.op == Op::InstanceOutput) of_job = program.types[program.exprs[program.exprs.arg(e, 0)].type].def;
        return OutputName(plan_, of_job, value);
      }
      case Imm::OfType: return value < program.types.size() ? Of(TypeId{value}) : std::string();
      default: return std::to_string(value);
    }
  };
  const OpShape& shape = ShapeOf(e.op);
  return of(shape.a, e.a, e.a) + "/" + of(shape.b, e.b, e.a);
}

const std::string& Structure::Of(ExprId root, uint32_t job) {
  if (!root.valid()) return empty_;
  const Program& program = plan_.program;
  auto key = [&](ExprId id) { return uint64_t{job} << 32 | id.index; };
  // Children first, without recursion: expressions may be deep.
  std::vector<std::pair<ExprId, bool>> todo{{root, false}};
  while (!todo.empty()) {
    const auto [id, ready] = todo.back();
    todo.pop_back();
    if (exprs_.count(key(id)) != 0) continue;
    const Expr& e = program.exprs[id];
    if (!ready) {
      todo.emplace_back(id, true);
      for (uint32_t i = 0; i < e.args.size; ++i) todo.emplace_back(program.exprs.arg(e, i), false);
      continue;
    }
    std::string text = fmt::format("{}({})", OpName(e.op), Immediate(e, job));
    if (e.op == Op::Checked || e.op == Op::Struct) text += Of(e.type);
    for (uint32_t i = 0; i < e.args.size; ++i) text += " " + exprs_.at(key(program.exprs.arg(e, i)));
    exprs_[key(id)] = Sha256Hex(text);
  }
  return exprs_.at(key(root));
}

const std::string& Structure::Of(TypeId id) {
  if (!id.valid()) return empty_;
  if (auto known = types_.find(id.index); known != types_.end()) return known->second;
  const TypeTable& types = plan_.program.types;
  const TypeNode& node = types[id];
  std::string text = std::to_string(static_cast<int>(node.kind));
  if (node.refinement.valid()) {
    const Refinement& r = types[node.refinement];
    text += fmt::format("|{}|{}", Of(node.base), static_cast<int>(r.kind));
    auto add = [&](const auto& bound) {
      if (bound) {
        text += fmt::format("|{}", *bound);
      } else {
        text += "|-";
      }
    };
    add(r.int_low);
    add(r.int_high);
    add(r.float_low);
    add(r.float_high);
    text += JsonQuote(r.pattern) + Of(r.predicate, UINT32_MAX);
  } else {
    for (TypeId part : {node.a, node.b}) text += "|" + Of(part);
    if (node.kind == TypeKind::Struct) {
      const StructDef& def = types[StructId{node.def}];
      text += "|" + def.name + (def.open ? " open" : "");
      for (const Field& field : def.fields) text += "|" + field.name + ":" + Of(field.type) + "=" + Of(field.fallback, UINT32_MAX);
    } else if (node.kind == TypeKind::Enum) {
      text += "|" + types[EnumId{node.def}].name;
      for (const std::string& one : types[EnumId{node.def}].cases) text += "|" + one;
    } else if (node.kind == TypeKind::Instance) {
      text += "|" + JobName(plan_, node.def);
    }
  }
  return types_[id.index] = Sha256Hex(text);
}

}  // namespace jobc::ir
