// What the compiler has to say about the sources. Every stage emits into one Diagnostics; the driver sorts, filters
// and renders them (render.h). Kinds are declared once, in diagnostics.def: a wrong argument count does not compile.
//
//   diags.Emit(span, diag::UnknownName, name).Label("not in scope").Help("did you mean `align`?");
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "compiler/source/source.h"

namespace jobc {

enum class Severity : uint8_t { Error, Warning };

/// One kind of diagnostic. `code` is the public code ("E202"); several kinds may share one.
struct DiagnosticKind {
  std::string_view code;
  std::string_view name;
  Severity severity;
  std::string_view format;
};

template <typename... Args>
struct TypedKind {
  DiagnosticKind kind;
};

namespace diag {
#define DIAGNOSTIC(code, name, severity, format, ...) \
  inline constexpr TypedKind<__VA_ARGS__> name{{#code, #name, Severity::severity, format}};
#include "compiler/diagnostics/diagnostics.def"
#undef DIAGNOSTIC
}  // namespace diag

/// Every kind, in the order of diagnostics.def.
const std::vector<const DiagnosticKind*>& AllDiagnosticKinds();

/// A replacement of `span` by `text` (an insertion where the span is empty).
struct Edit {
  Span span;
  std::string text;
};

struct Help {
  std::string text;
  std::vector<Edit> edits;  ///< not empty: a tool may apply it as it stands
};

struct Annotation {
  Span span;
  std::string label;
};

struct Diagnostic {
  const DiagnosticKind* kind = nullptr;
  std::string message;
  Annotation primary;
  std::vector<Annotation> secondary;
  std::vector<std::string> notes;
  std::vector<Help> helps;

  /// Chained on Emit(). Labels are short, lower case, no final period.
  Diagnostic& Label(std::string text) { primary.label = std::move(text); return *this; }
  Diagnostic& Secondary(Span span, std::string label) { if (span.valid()) secondary.push_back({span, std::move(label)}); return *this; }
  Diagnostic& Note(std::string text) { notes.push_back(std::move(text)); return *this; }
  Diagnostic& AddHelp(std::string text, std::vector<Edit> edits = {}) { helps.push_back({std::move(text), std::move(edits)}); return *this; }
};

inline constexpr size_t kMostDiagnostics = 10'000;

class Diagnostics {
 public:
  /// `span` may be invalid for faults without a place (a `-p` value, a file that cannot be opened).
  /// The reference stays valid until the next Sort() or Clear().
  template <typename... Params, typename... Args>
  Diagnostic& Emit(Span span, const TypedKind<Params...>& kind, Args&&... args) {
    static_assert(sizeof...(Params) == sizeof...(Args), "wrong number of arguments for this diagnostic");
    return Add(span, kind.kind,
               fmt::vformat(kind.kind.format, fmt::make_format_args(static_cast<const Params&>(args)...)));
  }

  /// Counts include those that were not kept.
  bool has_errors() const { return error_count_ > 0; }
  size_t error_count() const { return error_count_; }
  size_t warning_count() const { return warning_count_; }
  /// At most kMostDiagnostics: nobody reads more, and a hostile file must not fill the memory with them.
  const std::deque<Diagnostic>& all() const { return all_; }
  size_t dropped() const { return dropped_; }
  /// A copy of what another Diagnostics was told.
  void Append(const Diagnostic& diagnostic);
  /// By source, then position, then code; equal ones are kept once.
  void Sort();
  void Clear();
  /// Removes those for which `drop` is true (used for `# jobc: allow(CODE)`; errors are never dropped).
  void Filter(bool (*drop)(const Diagnostic&, void*), void* context);

 private:
  Diagnostic& Add(Span span, const DiagnosticKind& kind, std::string message);

  size_t& CountOf(const DiagnosticKind& kind) { return kind.severity == Severity::Error ? error_count_ : warning_count_; }

  std::deque<Diagnostic> all_;
  Diagnostic overflow_;  // what Emit() returns when all_ is full
  size_t error_count_ = 0;
  size_t warning_count_ = 0;
  size_t dropped_ = 0;
};

/// The candidate most like `name` (edit distance at most a third of its length, transpositions count once), or empty.
std::string_view DidYouMean(std::string_view name, const std::vector<std::string_view>& candidates);

}  // namespace jobc
