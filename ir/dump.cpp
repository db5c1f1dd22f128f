#include "ir/dump.h"

#include <fmt/format.h>

#include "ir/evaluate.h"
#include "ir/json.h"
#include "ir/op_shape.h"

namespace jobc::ir {
namespace {

class ValueShower {
 public:
  ValueShower(const TypeTable& types, size_t limit) : types_(types), limit_(limit) {}

  void Show(const Value& value, TypeId type, int depth) {
    if (out.size() > limit_ || depth > 32) {
      out += "…";
      return;
    }
    TypeId plain = type.index < types_.size() ? types_.NonNull(type) : types_.Basic(TypeKind::Error);
    const TypeNode& node = types_[plain];
    switch (value.kind()) {
      case ValueKind::Null: out += "null"; return;
      case ValueKind::Bool: out += value.as_bool() ? "true" : "false"; return;
      case ValueKind::Int: out += std::to_string(value.as_int()); return;
      case ValueKind::Float: {
        std::string text = FloatText(value.as_float());
        if (text.find_first_of(".e") == std::string::npos) text += ".0";
        out += text;
        return;
      }
      case ValueKind::String: ShowText(value.as_string()); return;
      case ValueKind::Duration: out += DurationText(value.as_int()); return;
      case ValueKind::Bytes: out += std::to_string(value.as_int()) + "B"; return;
      case ValueKind::File: ShowText(value.as_file().path); return;
      case ValueKind::Enum: {
        size_t i = static_cast<size_t>(value.as_int());
        if (node.kind == TypeKind::Enum && i < types_[EnumId{node.def}].cases.size()) {
          out += types_[EnumId{node.def}].name + "." + types_[EnumId{node.def}].cases[i];
        } else {
          out += "case " + std::to_string(i);
        }
        return;
      }
      case ValueKind::Secret: out += "(secret)"; return;
      case ValueKind::Instance: out += fmt::format("instance {} of job {}", value.instance_ordinal(), value.instance_job()); return;
      case ValueKind::List: {
        const ListValue& list = value.as_list();
        if (node.kind == TypeKind::Range && list.size() == 2) {
          Show(list[0], types_.Basic(TypeKind::Int), depth + 1);
          out += "..";
          Show(list[1], types_.Basic(TypeKind::Int), depth + 1);
          return;
        }
        bool is_struct = node.kind == TypeKind::Struct && types_[StructId{node.def}].fields.size() == list.size();
        bool is_pair = node.kind == TypeKind::Pair && list.size() == 2;
        if (is_struct) out += types_[StructId{node.def}].name + " ";
        out += is_struct || is_pair ? "{ " : "[";
        for (size_t i = 0; i < list.size(); ++i) {
          if (i > 0) out += ", ";
          if (out.size() > limit_) {
            out += "…";
            break;
          }
          if (is_struct) out += types_[StructId{node.def}].fields[i].name + " = ";
          if (is_pair) out += i == 0 ? "first = " : "second = ";
          TypeId element = is_struct ? types_[StructId{node.def}].fields[i].type
                           : is_pair ? (i == 0 ? node.a : node.b)
                           : node.kind == TypeKind::List ? node.a
                                                         : plain;
          Show(list[i], element, depth + 1);
        }
        out += is_struct || is_pair ? " }" : "]";
        return;
      }
      case ValueKind::Map: {
        out += "{";
        bool first = true;
        for (const auto& [key, item] : value.as_map()) {
          if (!first) out += ", ";
          first = false;
          if (out.size() > limit_) {
            out += "…";
            break;
          }
          bool map = node.kind == TypeKind::Map;
          Show(key, map ? node.a : types_.Basic(TypeKind::String), depth + 1);
          out += " = ";
          Show(item, map ? node.b : plain, depth + 1);
        }
        out += "}";
        return;
      }
    }
  }

  std::string out;

 private:
  void ShowText(const std::string& text) {
    size_t room = std::max<size_t>(limit_, 16);
    if (text.size() <= room) {
      out += JsonQuote(text);
      return;
    }
    size_t end = room;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
    std::string quoted = JsonQuote(std::string_view(text).substr(0, end));
    quoted.pop_back();
    out += quoted + "…\"";
  }

  const TypeTable& types_;
  size_t limit_;
};

class Dumper {
 public:
  explicit Dumper(const Program& program, const Plan* plan = nullptr, uint32_t job = UINT32_MAX)
      : program_(program), exprs_(program.exprs), types_(program.types), plan_(plan), own_(plan != nullptr && job < plan->jobs.size() ? &plan->jobs[job] : nullptr) {}

  void Dump(ExprId id, int depth) {
    if (id.index >= exprs_.size()) {
      out += id.valid() ? fmt::format("#{}", id.index) : "?";
      return;
    }
    if (depth > 200 || out.size() > 20000) {
      out += "…";
      return;
    }
    const Expr& e = exprs_[id];
    auto arg = [&](uint32_t i) { Dump(exprs_.arg(e, i), depth + 1); };
    auto infix = [&](std::string_view sign) {
      out += "(";
      arg(0);
      out += sign;
      arg(1);
      out += ")";
    };
    auto all = [&](uint32_t from = 0) {
      for (uint32_t i = from; i < e.args.size; ++i) {
        if (i > from) out += ", ";
        arg(i);
      }
    };
    auto call = [&](std::string_view name) {
      out += name;
      out += "(";
      all();
      out += ")";
    };
    auto indexed = [&](std::string name) {
      out += name;
      if (e.args.size > 0) {
        out += "[";
        all();
        out += "]";
      }
    };
    auto text = [&](uint32_t constant) {
      const Value& value = exprs_.constant(constant);
      return value.kind() == ValueKind::String ? value.as_string() : std::string("?");
    };
    switch (e.op) {
      case Op::Const: out += ShowValue(program_, exprs_.constant(e.a), e.type, 200); return;
      case Op::Param: out += e.a < program_.params.size() ? "params." + program_.params[e.a].name : fmt::format("param#{}", e.a); return;
      case Op::Let: out += e.a < program_.lets.size() ? program_.lets[e.a].name : fmt::format("let#{}", e.a); return;
      case Op::Secret: out += e.a < program_.secrets.size() ? program_.secrets[e.a].name : fmt::format("secret#{}", e.a); return;
      case Op::Local: out += fmt::format("${}", e.a); return;
      case Op::Var: out += VarName(e.a); return;
      case Op::Input: out += own_ != nullptr && e.a < own_->inputs.size() ? "input." + own_->inputs[e.a].name : fmt::format("input{}", e.a); return;
      case Op::Resource: out += "resources." + std::string(ResourceName(static_cast<ResourceKind>(e.a))); return;
      case Op::OutputPath: case Op::OutputValue: out += own_ != nullptr && e.a < own_->outputs.size() ? "output." + own_->outputs[e.a].name : fmt::format("output{}", e.a); return;
      case Op::JobOutput: indexed(JobName(e.a)); out += "." + OutputName(e.a, e.b); return;
      case Op::JobStatus: indexed(JobName(e.a)); out += "." + std::string(StatusFieldName(static_cast<StatusField>(e.b))); return;
      case Op::ScatterStatus: out += JobName(e.a) + "." + std::string(StatusFieldName(static_cast<StatusField>(e.b))); return;
      case Op::GatherOutput: indexed(JobName(e.a)); out += "[*]." + OutputName(e.a, e.b); return;
      case Op::GatherStatus: indexed(JobName(e.a)); out += "[*]." + std::string(StatusFieldName(static_cast<StatusField>(e.b))); return;
      case Op::Instances: indexed(JobName(e.a)); out += "[*]"; return;
      case Op::InstanceOutput: arg(0); out += "." + OutputName(types_[exprs_[exprs_.arg(e, 0)].type].def, e.b); return;
      case Op::InstanceStatus: arg(0); out += "." + std::string(StatusFieldName(static_cast<StatusField>(e.b))); return;
      case Op::InstanceKey: arg(0); out += ".key"; return;
      case Op::RunField: out += "run." + std::string(RunFieldName(static_cast<RunFieldKind>(e.a))); return;
      case Op::Attempt: out += "attempt"; return;
      case Op::Prev: out += "prev." + std::string(PrevName(static_cast<PrevKind>(e.a))); return;
      case Op::Field: case Op::OptField: {
        arg(0);
        out += e.op == Op::OptField ? "?." : ".";
        const TypeNode& node = types_[types_.NonNull(exprs_[exprs_.arg(e, 0)].type)];
        if (node.kind == TypeKind::Struct && e.a < types_[StructId{node.def}].fields.size()) {
          out += types_[StructId{node.def}].fields[e.a].name;
        } else if (node.kind == TypeKind::Pair) {
          out += e.a == 0 ? "first" : "second";
        } else {
          out += std::to_string(e.a);
        }
        return;
      }
      case Op::JsonField: arg(0); out += "." + text(e.a); return;
      case Op::Index: arg(0); out += "["; arg(1); out += "]"; return;
      case Op::Not: out += "!"; arg(0); return;
      case Op::Negate: out += "-"; arg(0); return;
      case Op::Add: infix(" + "); return;
      case Op::Sub: infix(" - "); return;
      case Op::Mul: infix(" * "); return;
      case Op::Div: infix(" / "); return;
      case Op::Mod: infix(" % "); return;
      case Op::Eq: infix(" == "); return;
      case Op::Ne: infix(" != "); return;
      case Op::Lt: infix(" < "); return;
      case Op::Le: infix(" <= "); return;
      case Op::Gt: infix(" > "); return;
      case Op::Ge: infix(" >= "); return;
      case Op::In: infix(" in "); return;
      case Op::And: infix(" && "); return;
      case Op::Or: infix(" || "); return;
      case Op::Range: infix(".."); return;
      case Op::Coalesce:
        out += "(";
        for (uint32_t i = 0; i < e.args.size; ++i) {
          if (i > 0) out += " ?? ";
          arg(i);
        }
        out += ")";
        return;
      case Op::If: out += "if "; arg(0); out += " then "; arg(1); out += " else "; arg(2); return;
      case Op::Match: {
        out += "match ";
        arg(0);
        out += " { ";
        uint32_t i = 1;
        for (; i + 1 < e.args.size; i += 2) {
          arg(i);
          out += " => ";
          arg(i + 1);
          out += ", ";
        }
        if (i < e.args.size) {
          out += "_ => ";
          arg(i);
        }
        out += " }";
        return;
      }
      case Op::List: out += "["; all(); out += "]"; return;
      case Op::TemplateArgs: call("args"); return;
      case Op::Splice: out += "..."; arg(0); return;
      case Op::Map:
        out += "{";
        for (uint32_t i = 0; i + 1 < e.args.size; i += 2) {
          if (i > 0) out += ", ";
          out += "[";
          arg(i);
          out += "] = ";
          arg(i + 1);
        }
        out += "}";
        return;
      case Op::ListFor: case Op::MapFor: {
        bool map = e.op == Op::MapFor;
        uint32_t fixed = map ? 3 : 2;
        out += map ? "{for " : "[for ";
        out += e.b == 2 ? fmt::format("${}, ${}", e.a, e.a + 1) : fmt::format("${}", e.a);
        out += " in ";
        arg(0);
        if (e.args.size > fixed) {
          out += " if ";
          arg(fixed);
        }
        out += " : ";
        if (map) {
          out += "[";
          arg(1);
          out += "] = ";
          arg(2);
          out += "}";
        } else {
          arg(1);
          out += "]";
        }
        return;
      }
      case Op::Struct: call(types_.kind(e.type) == TypeKind::Struct ? types_.Show(e.type) : "pair"); return;
      case Op::FileLiteral: out += std::string(FileBaseName(static_cast<FileBase>(e.a % kFileBases))) + "(" + JsonQuote(text(e.b)) + ", "; arg(0); out += ")"; return;
      case Op::Checked: arg(0); out += " as " + types_.Show(e.type); return;
      case Op::Narrow: arg(0); out += "!!"; return;
      case Op::Call:
        out += e.a < kBuiltins ? BuiltinName(static_cast<Builtin>(e.a)) : "?";
        out += "(";
        all();
        if (e.b < types_.size() && static_cast<Builtin>(e.a) != Builtin::json &&
            (static_cast<Builtin>(e.a) == Builtin::parse_json || static_cast<Builtin>(e.a) == Builtin::decode)) {
          out += ", " + types_.Show(TypeId{e.b});
        }
        out += ")";
        return;
      case Op::Apply: call(e.a < program_.fns.size() ? program_.fns[e.a].name : "?"); return;
      case Op::ReadJson: out += "read_json("; arg(0); out += ", " + types_.Show(e.b < types_.size() ? TypeId{e.b} : TypeId{}) + ")"; return;
      default: call(OpName(e.op)); return;
    }
  }

  std::string out;

 private:
  static constexpr uint32_t kBuiltins = 0
#define BUILTIN(name, ...) +1
#include "ir/builtins.def"
#undef BUILTIN
      ;
  std::string VarName(uint32_t slot) const {
    if (own_ != nullptr) {
      const Domain& domain = own_->domain;
      if (slot == 0 && !domain.name.empty()) return domain.name;
      if (slot == 1 && !domain.name2.empty()) return domain.name2;
      if (slot >= 2 && slot - 2 < domain.axes.size()) return "matrix." + domain.axes[slot - 2].name;
    }
    return slot < 2 ? fmt::format("for{}", slot) : fmt::format("matrix{}", slot - 2);
  }
  std::string JobName(uint32_t job) const { return plan_ != nullptr && job < plan_->jobs.size() ? plan_->jobs[job].address : fmt::format("job{}", job); }
  std::string OutputName(uint32_t job, uint32_t output) const {
    if (plan_ != nullptr && job < plan_->jobs.size() && output < plan_->jobs[job].outputs.size()) return plan_->jobs[job].outputs[output].name;
    return fmt::format("out{}", output);
  }

  const Program& program_;
  const ExprPool& exprs_;
  const TypeTable& types_;
  const Plan* plan_;
  const Job* own_;
};

}  // namespace

std::string DumpExpr(const Plan& plan, uint32_t job, ExprId id) {
  Dumper dumper(plan.program, &plan, job);
  dumper.Dump(id, 0);
  return std::move(dumper.out);
}

std::string DumpExpr(const Program& program, ExprId id) {
  Dumper dumper(program);
  dumper.Dump(id, 0);
  return std::move(dumper.out);
}

std::string ShowValue(const Program& program, const Value& value, TypeId type, size_t limit) {
  ValueShower shower(program.types, limit);
  shower.Show(value, type, 0);
  return std::move(shower.out);
}

}  // namespace jobc::ir
