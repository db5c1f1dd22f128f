#include "runtime/attempt.h"

#include <fmt/format.h>

#include <array>

namespace jobc {
namespace {

constexpr std::array<std::string_view, kInstanceStates> kStateNames = {
    "waiting", "ready", "running", "backoff", "succeeded", "failed", "skipped", "blocked", "cancelled"};

}  // namespace

std::string_view StateName(InstanceState state) { return kStateNames[static_cast<size_t>(state)]; }

std::optional<InstanceState> StateFromName(std::string_view name) {
  for (size_t i = 0; i < kStateNames.size(); ++i) {
    if (kStateNames[i] == name) return static_cast<InstanceState>(i);
  }
  return std::nullopt;
}

bool IsLegalChange(InstanceState from, InstanceState to) {
  using S = InstanceState;
  switch (from) {
    case S::Waiting: return to != S::Waiting && to != S::Running && to != S::Backoff;
    case S::Ready: return to == S::Running || to == S::Cancelled || to == S::Failed;
    case S::Running: return to == S::Succeeded || to == S::Failed || to == S::Cancelled || to == S::Backoff;
    case S::Backoff: return to == S::Ready || to == S::Failed || to == S::Cancelled;
    default: return false;
  }
}

Verdict Succeeded() {
  Verdict verdict;
  verdict.success = true;
  return verdict;
}

Verdict Failed(ir::ErrorKind kind, std::string message) {
  Verdict verdict;
  verdict.kind = kind;
  verdict.error_class = ir::ClassOf(kind);
  verdict.message = std::move(message);
  return verdict;
}

std::string_view ErrorName(const Verdict& verdict) {
  if (verdict.success) return "success";
  return verdict.name.empty() ? ir::KindName(verdict.kind) : std::string_view(verdict.name);
}

std::string_view MessageBesideEnd(const Verdict& verdict) {
  const std::string_view text = verdict.message;
  const std::string end = verdict.signal ? fmt::format("was ended by signal {}", *verdict.signal) : fmt::format("exit code {}", verdict.exit_code.value_or(-1));
  if (text == end) return "";
  return text.starts_with(end + ": ") ? text.substr(end.size() + 2) : text;
}

}  // namespace jobc
