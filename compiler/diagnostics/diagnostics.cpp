#include "compiler/diagnostics/diagnostics.h"

#include <algorithm>
#include <tuple>

namespace jobc {

// A message with a malformed placeholder, or more placeholders than declared arguments, does not compile.
#define DIAGNOSTIC(code, name, severity, format, ...) \
  static_assert((fmt::format_string<__VA_ARGS__>(format), true), #name);
#include "compiler/diagnostics/diagnostics.def"
#undef DIAGNOSTIC

const std::vector<const DiagnosticKind*>& AllDiagnosticKinds() {
  static const std::vector<const DiagnosticKind*> kinds = {
#define DIAGNOSTIC(code, name, severity, format, ...) &diag::name.kind,
#include "compiler/diagnostics/diagnostics.def"
#undef DIAGNOSTIC
  };
  return kinds;
}

Diagnostic& Diagnostics::Add(Span span, const DiagnosticKind& kind, std::string message) {
  ++CountOf(kind);
  Diagnostic fresh;
  fresh.kind = &kind;
  fresh.message = std::move(message);
  fresh.primary.span = span;
  if (all_.size() < kMostDiagnostics) return all_.emplace_back(std::move(fresh));
  ++dropped_;
  overflow_ = std::move(fresh);
  return overflow_;
}

void Diagnostics::Append(const Diagnostic& diagnostic) {
  ++CountOf(*diagnostic.kind);
  if (all_.size() < kMostDiagnostics) {
    all_.push_back(diagnostic);
  } else {
    ++dropped_;
  }
}

void Diagnostics::Sort() {
  // Those without a place come first: they are about the command line, which is read before any file.
  const auto key = [](const Diagnostic& d) {
    const uint32_t source = d.primary.span.valid() ? d.primary.span.source.index + 1 : 0;
    return std::make_tuple(source, d.primary.span.begin, d.primary.span.end, d.kind->code);
  };
  std::stable_sort(all_.begin(), all_.end(),
                   [&](const Diagnostic& a, const Diagnostic& b) { return key(a) < key(b); });
  // Equal ones need not be neighbours: another message with the same code and span may stand between them.
  std::deque<Diagnostic> kept;
  size_t group = 0;
  for (Diagnostic& each : all_) {
    if (group < kept.size() && key(kept[group]) != key(each)) group = kept.size();
    const bool seen = std::any_of(kept.begin() + static_cast<std::ptrdiff_t>(group), kept.end(),
                                  [&](const Diagnostic& other) { return other.message == each.message; });
    if (seen) {
      --CountOf(*each.kind);
    } else {
      kept.push_back(std::move(each));
    }
  }
  all_ = std::move(kept);
}

void Diagnostics::Clear() {
  all_.clear();
  error_count_ = warning_count_ = dropped_ = 0;
}

void Diagnostics::Filter(bool (*drop)(const Diagnostic&, void*), void* context) {
  warning_count_ -= std::erase_if(all_, [&](const Diagnostic& each) {
    return each.kind->severity != Severity::Error && drop(each, context);
  });
}

namespace {

/// Optimal string alignment distance, given up (as limit + 1) once it must exceed `limit`.
size_t EditDistance(std::string_view a, std::string_view b, size_t limit) {
  const size_t difference = a.size() > b.size() ? a.size() - b.size() : b.size() - a.size();
  if (difference > limit) return limit + 1;
  std::vector<size_t> before(b.size() + 1), previous(b.size() + 1), current(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) previous[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    current[0] = i;
    size_t best = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = previous[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      current[j] = std::min({previous[j] + 1, current[j - 1] + 1, substituted});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        current[j] = std::min(current[j], before[j - 2] + 1);
      }
      best = std::min(best, current[j]);
    }
    if (best > limit) return limit + 1;
    std::swap(before, previous);
    std::swap(previous, current);
  }
  return previous[b.size()];
}

std::string AsciiLower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

}  // namespace

std::string_view DidYouMean(std::string_view name, const std::vector<std::string_view>& candidates) {
  // Longer names are generated, not typed; comparing them would only cost time.
  constexpr size_t kLongestCompared = 64;
  if (name.empty() || name.size() > kLongestCompared) return {};
  const std::string lower = AsciiLower(name);
  const size_t limit = std::max<size_t>(1, name.size() / 3);
  std::string_view best;
  size_t best_distance = limit + 1;
  for (const std::string_view candidate : candidates) {
    if (candidate.empty() || candidate.size() > kLongestCompared || candidate == name) continue;
    // Only the case differs: nothing is more alike. Ties go to the first in alphabetical order, so that the
    // order of a hash table never shows.
    const std::string candidate_lower = AsciiLower(candidate);
    const size_t distance = candidate_lower == lower ? 0 : EditDistance(lower, candidate_lower, limit);
    // A one-letter name is "one edit" from every other one-letter name: that is no suggestion.
    if (distance >= std::max(name.size(), candidate.size())) continue;
    if (distance < best_distance || (distance == best_distance && !best.empty() && candidate < best)) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

}  // namespace jobc
