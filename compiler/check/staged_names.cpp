#include "compiler/check/staged_names.h"

#include <fmt/format.h>

#include <map>

#include "ir/file_path.h"

namespace jobc::check {

using ir::Op;

std::optional<std::string> StagedName(const ir::Plan& plan, ir::ExprId value) {
  if (!value.valid()) return std::nullopt;
  const ir::ExprPool& exprs = plan.program.exprs;
  const auto text = [&](ir::ExprId id) -> std::optional<std::string> {
    if (!exprs.IsConst(id) || exprs.ConstValue(id).kind() != ir::ValueKind::String) return std::nullopt;
    return exprs.ConstValue(id).as_string();
  };
  const ir::Expr& e = exprs[value];
  std::optional<std::string> path;
  switch (e.op) {
    case Op::FileLiteral: path = text(exprs.arg(e, 0)); break;
    case Op::Narrow: case Op::Checked: return StagedName(plan, exprs.arg(e, 0));
    case Op::Let: return StagedName(plan, plan.program.lets[e.a].value);
    case Op::JobOutput: {
      const ir::Output& output = plan.jobs[e.a].outputs[e.b];
      if (output.kind == ir::OutputKind::Path && output.value.valid()) path = text(output.value);
      break;
    }
    case Op::Call:
      if (e.a == static_cast<uint32_t>(ir::Builtin::text_file) || e.a == static_cast<uint32_t>(ir::Builtin::json_file)) path = text(exprs.arg(e, 0));
      break;
    case Op::Const:
      if (exprs.ConstValue(value).kind() == ir::ValueKind::File) path = exprs.ConstValue(value).as_file().path;
      break;
    default: break;
  }
  if (!path) return std::nullopt;
  return std::string(ir::PathBasename(*path));
}

bool CheckInputNames(const ir::Plan& plan, const ir::Job& job, const std::function<std::optional<std::string>(size_t)>& name_of,
                     const std::function<Span(size_t)>& span_of, Diagnostics& diags) {
  if (job.action != ir::ActionKind::ImageArgs) return false;
  const ir::TypeTable& types = plan.program.types;
  std::map<std::string, size_t> taken;   // by name; SIZE_MAX: jobc's own
  taken.emplace("inputs.json", SIZE_MAX);
  bool found = false;
  for (size_t i = 0; i < job.inputs.size(); ++i) {
    if (types.kind(types.NonNull(types.Bare(job.inputs[i].type))) != ir::TypeKind::File) continue;
    const std::optional<std::string> name = name_of(i);
    if (!name) continue;
    size_t other = i;
    bool directory = false;
    if (auto [it, added] = taken.emplace(*name, i); !added) {
      other = it->second;
    } else {
      for (size_t k = 0; k < job.inputs.size(); ++k) {
        if (job.inputs[k].name == *name && types.HasFile(job.inputs[k].type)) {
          other = k;
          directory = true;
        }
      }
      if (!directory) continue;
    }
    found = true;
    auto& d = diags.Emit(span_of(i), diag::OneInputName, job.address, *name);
    if (directory) {
      d.Label(fmt::format("`{}` is the directory of the input `{}` there", *name, job.inputs[other].name)).AddHelp("give the input another name than the file");
    } else if (other == SIZE_MAX) {
      d.Label("holds the values of all inputs there").AddHelp("give the file another name");
    } else {
      d.Label("the second one").Secondary(span_of(other), "the first one");
      d.AddHelp(fmt::format("give one of the files another name, or put both into a list:  input {{ all: List<File> = [ … ] }}"));
    }
    d.Note("a job with `image_args` finds each file at `$INPUT_PATH/NAME` too");
  }
  return found;
}

}  // namespace jobc::check
