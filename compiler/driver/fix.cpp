#include "compiler/driver/fix.h"

#include <algorithm>
#include <set>

#include "compiler/check/check.h"
#include "compiler/diagnostics/allow.h"

namespace jobc {
namespace {

/// Enough for helps that only show once another one was applied; an endless to and fro ends here.
constexpr int kMostRounds = 20;

struct Candidate {
  AppliedFix fix;
  std::vector<Edit> edits;
};

struct Checked {
  size_t errors = 0;
  size_t warnings = 0;
  bool parses = true;
  std::vector<Candidate> candidates;
};

Checked CheckText(const std::string& name, const std::string& directory, const std::string& text) {
  SourceManager sources;
  Diagnostics diags;
  const SourceId root = sources.Add(name, text, directory);
  Check(root, sources, diags);
  DropAllowed(diags, sources);
  diags.Sort();
  Checked out{diags.error_count(), diags.warning_count(), true, {}};
  for (const Diagnostic& each : diags.all()) {
    if (each.kind->code == "E010") out.parses = false;
    const Help* const help = CertainHelp(each);
    if (help == nullptr) continue;
    if (std::any_of(help->edits.begin(), help->edits.end(), [&](const Edit& edit) { return edit.span.source != root; })) continue;
    const Span at = each.primary.span.valid() && each.primary.span.source == root ? each.primary.span : help->edits.front().span;
    out.candidates.push_back({{sources.Locate(root, at.begin), std::string(each.kind->code), help->text}, help->edits});
  }
  return out;
}

bool IsBetter(const Checked& after, const Checked& before) {
  if (before.parses && !after.parses) return false;
  return after.errors < before.errors || (after.errors == before.errors && after.warnings < before.warnings);
}

}  // namespace

bool ApplyEdits(std::string& text, std::vector<Edit> edits) {
  std::stable_sort(edits.begin(), edits.end(), [](const Edit& x, const Edit& y) { return x.span.begin < y.span.begin || (x.span.begin == y.span.begin && x.span.end < y.span.end); });
  for (size_t i = 0; i < edits.size(); ++i) {
    if (edits[i].span.begin > edits[i].span.end || edits[i].span.end > text.size()) return false;
    if (i > 0 && edits[i].span.begin < edits[i - 1].span.end) return false;
  }
  for (size_t i = edits.size(); i-- > 0;) text.replace(edits[i].span.begin, edits[i].span.end - edits[i].span.begin, edits[i].text);
  return true;
}

const Help* CertainHelp(const Diagnostic& diagnostic) {
  const Help* certain = nullptr;
  for (const Help& help : diagnostic.helps) {
    if (help.edits.empty()) continue;
    if (certain != nullptr || help.text.starts_with("did you mean")) return nullptr;
    certain = &help;
  }
  return certain;
}

FixedText FixText(const std::string& name, const std::string& directory, std::string text) {
  FixedText out;
  Checked now = CheckText(name, directory, text);
  for (int round = 0; round < kMostRounds && !now.candidates.empty(); ++round) {
    // All that do not touch each other at once; the others in a later round, when their places are known anew.
    std::vector<Edit> edits;
    std::vector<AppliedFix> fixes;
    std::string fixed = text;
    for (const Candidate& candidate : now.candidates) {
      std::vector<Edit> with = edits;
      with.insert(with.end(), candidate.edits.begin(), candidate.edits.end());
      std::string tried = text;
      // Two insertions at one place would depend on their order.
      const bool same_place = std::any_of(edits.begin(), edits.end(), [&](const Edit& x) {
        return std::any_of(candidate.edits.begin(), candidate.edits.end(), [&](const Edit& y) { return x.span.begin == y.span.begin; });
      });
      if (same_place || !ApplyEdits(tried, with)) continue;
      edits = std::move(with);
      fixes.push_back(candidate.fix);
      fixed = std::move(tried);
    }
    Checked after = CheckText(name, directory, fixed);
    if (!IsBetter(after, now)) {
      // One of them is wrong here: they are tried one by one, and the first that helps is kept.
      bool found = false;
      for (const Candidate& candidate : now.candidates) {
        fixed = text;
        if (!ApplyEdits(fixed, candidate.edits)) continue;
        after = CheckText(name, directory, fixed);
        found = IsBetter(after, now);
        if (!found) continue;
        fixes = {candidate.fix};
        break;
      }
      if (!found) break;
    }
    text = std::move(fixed);
    now = std::move(after);
    out.fixes.insert(out.fixes.end(), fixes.begin(), fixes.end());
  }
  out.text = std::move(text);
  out.errors_left = now.errors;
  out.warnings_left = now.warnings;
  return out;
}

}  // namespace jobc
