#include "ir/plan.h"

#include <array>

namespace jobc::ir {
namespace {

constexpr std::array<std::string_view, kErrorKinds> kKindNames = {
    "submit", "queue_timeout", "node_lost", "preempted", "network", "image", "staging", "quota", "auth", "publish",
    "internal", "exit", "signal", "oom", "timeout", "idle_timeout", "command", "schema", "output_missing", "expression",
    "invalid_input", "cancelled", "check"};
static_assert(static_cast<int>(ErrorKind::Check) + 1 == kErrorKinds);

constexpr std::array<std::string_view, 4> kClassNames = {"system", "algorithm", "data", "none"};
constexpr std::array<std::string_view, 4> kStrategyNames = {"ignore", "continue", "drain", "halt"};

constexpr std::array<std::string_view, kBackendKinds> kBackendNames = {
    "process", "docker", "podman", "apptainer", "ssh", "slurm", "sge", "flux", "cloud_run", "cloud_batch", "vertex"};
static_assert(static_cast<int>(BackendKind::Vertex) + 1 == kBackendKinds);

template <typename E, size_t N>
std::optional<E> FromName(const std::array<std::string_view, N>& names, std::string_view name) {
  for (size_t i = 0; i < N; ++i) {
    if (names[i] == name) return static_cast<E>(i);
  }
  return std::nullopt;
}

}  // namespace

ErrorClass ClassOf(ErrorKind kind) {
  if (kind <= ErrorKind::Internal) return ErrorClass::System;
  if (kind <= ErrorKind::Expression) return ErrorClass::Algorithm;
  if (kind == ErrorKind::InvalidInput) return ErrorClass::Data;
  return ErrorClass::None;
}

std::string_view KindName(ErrorKind kind) { return kKindNames[static_cast<size_t>(kind)]; }
std::string_view ClassName(ErrorClass c) { return kClassNames[static_cast<size_t>(c)]; }
std::optional<ErrorKind> KindFromName(std::string_view name) { return FromName<ErrorKind>(kKindNames, name); }

std::optional<ErrorClass> ClassFromName(std::string_view name) {
  // `none` is no word of the language: cancelled and check have no class that a rule could name.
  std::optional<ErrorClass> found = FromName<ErrorClass>(kClassNames, name);
  return found == ErrorClass::None ? std::nullopt : found;
}

std::string_view StrategyName(Strategy strategy) { return kStrategyNames[static_cast<size_t>(strategy)]; }
std::string_view BackendName(BackendKind kind) { return kBackendNames[static_cast<size_t>(kind)]; }
std::optional<BackendKind> BackendFromName(std::string_view name) { return FromName<BackendKind>(kBackendNames, name); }

}  // namespace jobc::ir
