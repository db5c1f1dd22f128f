// What each operation's node looks like: how many children it may have and what its two immediate numbers mean. One
// table for the plan writer, the plan reader, dumps and the schema, so that they cannot disagree.
#pragma once

#include <cstdint>
#include <string_view>

#include "ir/expr.h"

namespace jobc::ir {

/// The meaning of an immediate; None: unused and 0.
enum class Imm : uint8_t {
  None, Const, Param, Let, Secret, Slot, Var, Input, Resource, Output, OwnOutput, Job, Status, RunField, Prev, Member,
  Key, Directory, PlaceName, Base, Names, Function, OfType, Fn,
};

struct OpShape {
  Imm a = Imm::None;
  Imm b = Imm::None;
  uint8_t min_args = 0;
  uint8_t max_args = 0;  ///< kManyArgs: no limit
};

inline constexpr uint8_t kManyArgs = 255;

const OpShape& ShapeOf(Op op);
/// The member of a node's JSON that holds an immediate: "let", "slot", …
std::string_view ImmName(Imm imm);
std::string_view StatusFieldName(StatusField field);
std::string_view ResourceName(ResourceKind kind);
std::string_view RunFieldName(RunFieldKind kind);
std::string_view PrevName(PrevKind kind);
std::string_view FileBaseName(FileBase base);

inline constexpr uint32_t kStatusFields = 8;
inline constexpr uint32_t kResourceKinds = 5;
inline constexpr uint32_t kRunFields = 3;
inline constexpr uint32_t kPrevKinds = 8;
inline constexpr uint32_t kFileBases = 7;
inline constexpr uint32_t kOpCount = 0
#define OP(name, json) +1
    JOBC_IR_OPS(OP)
#undef OP
    ;
/// Locals of one frame; a checked program needs far fewer.
inline constexpr uint32_t kMaxSlots = 4096;

}  // namespace jobc::ir
