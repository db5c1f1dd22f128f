#include "ir/op_shape.h"

#include <array>

#include "support/check.h"

namespace jobc::ir {
namespace {

constexpr OpShape MakeShape(Op op) {
  switch (op) {
    case Op::Error: return {};
    case Op::Const: return {.a = Imm::Const};
    case Op::Param: return {.a = Imm::Param};
    case Op::Let: return {.a = Imm::Let};
    case Op::Secret: return {.a = Imm::Secret};
    case Op::Local: return {.a = Imm::Slot};
    case Op::Var: return {.a = Imm::Var};
    case Op::Input: return {.a = Imm::Input};
    case Op::Resource: return {.a = Imm::Resource};
    case Op::OutputPath: case Op::OutputValue: return {.a = Imm::OwnOutput};
    case Op::JobOutput: case Op::GatherOutput: return {Imm::Job, Imm::Output, 0, kManyArgs};
    case Op::JobStatus: case Op::GatherStatus: return {Imm::Job, Imm::Status, 0, kManyArgs};
    case Op::ScatterStatus: return {Imm::Job, Imm::Status, 0, 0};
    case Op::Instances: return {Imm::Job, Imm::None, 0, kManyArgs};
    case Op::InstanceOutput: return {Imm::None, Imm::Output, 1, 1};
    case Op::InstanceStatus: return {Imm::None, Imm::Status, 1, 1};
    case Op::InstanceKey: return {Imm::None, Imm::None, 1, 1};
    case Op::RunField: return {.a = Imm::RunField};
    case Op::Attempt: return {};
    case Op::Prev: return {.a = Imm::Prev};
    case Op::Field: case Op::OptField: return {Imm::Member, Imm::None, 1, 1};
    case Op::JsonField: return {Imm::Key, Imm::None, 1, 1};
    case Op::Index: return {Imm::None, Imm::None, 2, 2};
    case Op::Not: case Op::Negate: return {Imm::None, Imm::None, 1, 1};
    case Op::Add: case Op::Sub: case Op::Mul: case Op::Div: case Op::Mod:
    case Op::Eq: case Op::Ne: case Op::Lt: case Op::Le: case Op::Gt: case Op::Ge: case Op::In:
    case Op::And: case Op::Or: case Op::Range:
      return {Imm::None, Imm::None, 2, 2};
    case Op::Coalesce: return {Imm::None, Imm::None, 1, kManyArgs};
    case Op::If: return {Imm::None, Imm::None, 3, 3};
    case Op::Match: return {Imm::None, Imm::None, 2, kManyArgs};
    case Op::List: case Op::Map: case Op::Struct: case Op::Concat: case Op::TemplateArgs:
      return {Imm::None, Imm::None, 0, kManyArgs};
    case Op::Splice: case Op::ToFloat: case Op::ToJson: case Op::Narrow: return {Imm::None, Imm::None, 1, 1};
    case Op::ListFor: return {Imm::Slot, Imm::Names, 2, 3};
    case Op::MapFor: return {Imm::Slot, Imm::Names, 3, 4};
    case Op::FileLiteral: return {Imm::Base, Imm::Directory, 1, 1};
    case Op::Checked: return {Imm::PlaceName, Imm::None, 1, 1};
    case Op::Call: return {Imm::Function, Imm::OfType, 0, kManyArgs};
    case Op::Apply: return {Imm::Fn, Imm::None, 0, kManyArgs};
    case Op::Stdout: case Op::Stderr: case Op::ExitCode: return {};
    case Op::ReadText: return {Imm::None, Imm::None, 1, 1};
    case Op::ReadJson: return {Imm::None, Imm::OfType, 1, 1};
  }
  return {};
}

constexpr auto kShapes = [] {
  std::array<OpShape, kOpCount> shapes;
  for (uint32_t i = 0; i < kOpCount; ++i) shapes[i] = MakeShape(static_cast<Op>(i));
  return shapes;
}();

constexpr std::string_view kImmNames[] = {
    "",       "value",  "param", "let",    "secret", "slot",   "slot", "input", "resource", "output", "output", "job",
    "field",  "field",  "prev",  "member", "key",    "dir",    "place", "base", "names",    "function", "of",    "fn"};
constexpr std::string_view kStatusNames[kStatusFields] = {"ok",       "done",   "failed", "attempts",
                                                          "duration", "result", "count",  "ok_ratio"};
constexpr std::string_view kResourceNames[kResourceKinds] = {"cpu", "memory", "disk", "gpu", "spot"};
constexpr std::string_view kRunFieldNames[kRunFields] = {"id", "status", "failed_jobs"};
constexpr std::string_view kPrevNames[kPrevKinds] = {"cpu",  "memory",        "disk",        "gpu",
                                                     "spot", "timeout.queue", "timeout.run", "timeout.idle"};
constexpr std::string_view kBaseNames[kFileBases] = {"source", "cwd", "absolute", "uri", "job", "output", "text"};

}  // namespace

const OpShape& ShapeOf(Op op) { return kShapes[static_cast<size_t>(op)]; }
std::string_view ImmName(Imm imm) { return kImmNames[static_cast<size_t>(imm)]; }
std::string_view StatusFieldName(StatusField field) { return kStatusNames[static_cast<size_t>(field)]; }
std::string_view ResourceName(ResourceKind kind) { return kResourceNames[static_cast<size_t>(kind)]; }
std::string_view RunFieldName(RunFieldKind kind) { return kRunFieldNames[static_cast<size_t>(kind)]; }
std::string_view PrevName(PrevKind kind) { return kPrevNames[static_cast<size_t>(kind)]; }
std::string_view FileBaseName(FileBase base) { return kBaseNames[static_cast<size_t>(base)]; }

}  // namespace jobc::ir
